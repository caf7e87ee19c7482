"""Uploaded source archives: each under its SHA-256, complete and durable or not there at all. In files, one each, or,
by `archive_objects`, in an object store."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import math
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from control_plane import errors

CHUNK_BYTES: Final = 256 * 1024
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_UNFINISHED: Final = ".part"
_LONGEST_UPLOAD_S: Final = 24 * 3600


class ArchiveStore:
    """Archives in a folder. An archive stays after the stack got another one: runs that were created before need it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, *, is_shared: bool = False) -> None:
        """Makes the folder and removes what interrupted uploads left. Call it once, before the first upload. Blocks.

        `is_shared`: other control planes may be uploading, so only what is a day old is removed.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        before = time.time() - _LONGEST_UPLOAD_S if is_shared else math.inf
        for leftover in self._folder.glob(f"*{_UNFINISHED}"):
            with suppress(FileNotFoundError):
                if leftover.stat().st_mtime < before:
                    leftover.unlink()

    def new(self) -> NewArchive:
        """A file to write an upload to; nothing of it stays unless it is kept."""
        return NewArchive(self._folder)

    async def keep(self, archive: NewArchive) -> None:
        """Makes an upload durable under its digest."""
        await asyncio.to_thread(archive.keep)

    def path(self, sha256: str) -> Path:
        """Where the archive of this digest is, or would be."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"{sha256!r} is no SHA-256 in lower-case hex")
        return self._folder / sha256

    async def remove(self, sha256: str) -> None:
        """One that is not there is no error."""
        await asyncio.to_thread(self.path(sha256).unlink, missing_ok=True)

    async def chunks(self, sha256: str) -> AsyncIterator[bytes]:
        """The archive's bytes, in pieces of at most CHUNK_BYTES. Raises FileNotFoundError where it is not there."""
        file = await asyncio.to_thread(self.path(sha256).open, "rb")
        try:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk
        finally:
            file.close()


class NewArchive:
    """An upload on its way to the disk. Its methods block.

    Raises `errors.DiskFull` where there is no room.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self.path = folder / f"{secrets.token_hex(16)}{_UNFINISHED}"
        self.size_bytes = 0

    def __enter__(self) -> Self:
        with _room_expected():
            self._file = self.path.open("xb", buffering=0)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        self.path.unlink(missing_ok=True)

    @property
    def sha256(self) -> str:
        """Of what was written so far, lower-case hex."""
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        assert self._file is not None
        rest = memoryview(chunk)
        with _room_expected():
            while rest:
                rest = rest[self._file.write(rest) :]
        self._digest.update(chunk)
        self.size_bytes += len(chunk)

    def keep(self) -> None:
        """Makes it a durable file under its digest."""
        assert self._file is not None
        with _room_expected():
            os.fsync(self._file.fileno())
            self.path.rename(self._folder / self.sha256)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


@contextmanager
def _room_expected() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise errors.DiskFull("the control plane's disk is full; the archive was not stored") from error
        raise


def key_of(sha256: str) -> str:
    """Where the archive of this digest is in an object store."""
    return f"archives/{sha256}"
