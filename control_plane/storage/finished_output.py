"""Output of runs that are over, as it lies in the folder: the file that was written, or, in its place, a compressed one.
The compressed one counts as soon as it is there: it is whole, or it is not there. All functions block."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

from control_plane.storage import seekable
from control_plane.storage.seekable import Damaged, Table

_BLOCK_BYTES: Final = 1 << 20
_TABLES: Final = 64


class NotAsRecorded(Exception):
    """The stored output is not the one on record; the message says how it differs. Nothing was changed."""


class BeingCompressed(Exception):
    """Another control plane is at it."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An output that is open: it stays readable while another file takes its place."""

    file: int
    is_compressed: bool

    @property
    def size_bytes(self) -> int:
        """Of the output. Raises Damaged."""
        return (
            seekable.read_table(self.file).size_bytes if self.is_compressed else os.fstat(self.file).st_size
        )

    def blocks(self) -> Iterator[bytes]:
        """All of the output, in pieces. Raises Damaged."""
        if self.is_compressed:
            yield from seekable.blocks(self.file)
        else:
            position = 0
            while block := os.pread(self.file, _BLOCK_BYTES, position):
                yield block
                position += len(block)


def path_of(folder: Path, run_id: str) -> Path:
    """Where the output of a run is written."""
    # The end of an id is random: 1024 folders of about equal size.
    return folder / run_id[-2:] / f"{run_id}.log"


def compressed_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.zst")


@contextmanager
def opened(path: Path) -> Iterator[StoredFile | None]:
    """The output that was written to `path`, in whichever form it is there; None where there is none."""
    # In this order: between the first look and the second, the compressed file may take the other's place.
    for candidate in (compressed_path(path), path, compressed_path(path)):
        try:
            file = os.open(candidate, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        with _closing(file, candidate) as stored:
            yield stored
        return
    yield None


@contextmanager
def opened_file(path: Path) -> Iterator[StoredFile]:
    """This very file. Raises FileNotFoundError."""
    with _closing(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path) as stored:
        yield stored


@contextmanager
def _closing(file: int, path: Path) -> Iterator[StoredFile]:
    try:
        yield StoredFile(file, is_compressed=path.suffix == ".zst")
    finally:
        os.close(file)


def read(path: Path, offset: int, length: int) -> bytes:
    """Up to `length` bytes from `offset`; empty at the end. Of a compressed output, up to the end of a frame."""
    with opened(path) as stored:
        if stored is None:
            return b""
        if not stored.is_compressed:
            return os.pread(stored.file, length, offset)
        status = os.fstat(stored.file)
        table = _table(_Version(status.st_dev, status.st_ino, status.st_mtime_ns, stored.file))
        return seekable.read(stored.file, table, offset, min(length, table.frame_end(offset) - offset))


def size(path: Path) -> int:
    """0 where there is none."""
    with opened(path) as stored:
        return 0 if stored is None else stored.size_bytes


def compress(path: Path, *, size_bytes: int, sha256: str) -> int:
    """Puts a compressed file in the place of `path`, and returns its length. Who reads the old one goes on reading.

    Raises:
        NotAsRecorded: the output has another length or hash than these.
        BeingCompressed
    """
    target = compressed_path(path)
    draft = target.with_name(f"{target.name}.part")
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return _compressed_before(target)
    try:
        _lock(file)
        if not target.exists():
            try:
                _write(draft, StoredFile(file, is_compressed=False), size_bytes, sha256)
                _require_same(draft, size_bytes, sha256)
                draft.rename(target)
            finally:
                draft.unlink(missing_ok=True)
        compressed_bytes = target.stat().st_size
        # Whoever renamed it: that is on the disk before the original goes.
        sync_folder(target.parent)
        path.unlink(missing_ok=True)
        return compressed_bytes
    finally:
        os.close(file)


def sync_folder(folder: Path) -> None:
    """What was made or renamed in it is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _compressed_before(target: Path) -> int:
    try:
        return target.stat().st_size
    except FileNotFoundError as error:
        raise NotAsRecorded("its file is gone") from error


def _lock(file: int) -> None:
    """As who appends does, so that two replicas do not write one draft."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise BeingCompressed from error
        raise


def _write(draft: Path, stored: StoredFile, size_bytes: int, sha256: str) -> None:
    found = hashlib.sha256()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        writer = seekable.Writer(file)
        length = 0
        for block in stored.blocks():
            found.update(block)
            length += len(block)
            writer.write(block)
        require(length, found.hexdigest(), size_bytes, sha256)
        writer.finish()
        file.flush()
        os.fsync(file.fileno())


def _require_same(draft: Path, size_bytes: int, sha256: str) -> None:
    """What was written is read again before the original goes."""
    file = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
    try:
        require(*_digest(StoredFile(file, is_compressed=True)), size_bytes, sha256)
    except Damaged as error:
        raise NotAsRecorded(f"what was just compressed cannot be read back: {error}") from error
    finally:
        os.close(file)


def _digest(stored: StoredFile) -> tuple[int, str]:
    sha256, size_bytes = hashlib.sha256(), 0
    for block in stored.blocks():
        sha256.update(block)
        size_bytes += len(block)
    return size_bytes, sha256.hexdigest()


def remove(path: Path) -> None:
    """The output that was written to `path`, in whichever form. One that is not there is no error."""
    for each in (path, compressed_path(path)):
        each.unlink(missing_ok=True)


def require(found_bytes: int, found_sha256: str, size_bytes: int, sha256: str) -> None:
    """Raises NotAsRecorded where these are not the same."""
    if found_bytes != size_bytes:
        raise NotAsRecorded(f"{found_bytes} bytes are stored, {size_bytes} on record")
    if found_sha256 != sha256:
        raise NotAsRecorded(f"its SHA-256 is {found_sha256}, on record is {sha256}")


@dataclass(frozen=True, slots=True)
class _Version:
    """This very file, whatever descriptor it is open with."""

    device: int
    inode: int
    changed_ns: int
    file: int = field(compare=False)


@lru_cache(maxsize=_TABLES)
def _table(version: _Version) -> Table:
    return seekable.read_table(version.file)
