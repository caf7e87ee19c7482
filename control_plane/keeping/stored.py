"""What is stored of an installation, in files or in an object store, read without a server. All of it blocks."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from control_plane import errors
from control_plane.keeping import files
from control_plane.keeping.errors import Refused
from control_plane.keeping.ground import Ground
from control_plane.object_address import ObjectAddress
from control_plane.storage import finished_output, place, seekable
from control_plane.storage.database import Database
from control_plane.storage.finished_output import StoredFile
from control_plane.storage.place import CannotKeep

T = TypeVar("T")

_READ_BYTES: Final = 1 << 20


class Found(Protocol):
    """An output or an archive that is there."""

    def blocks(self) -> Iterator[bytes]:
        """All of it. Raises Damaged."""

    def copy_to(self, target: Path) -> Path:
        """Writes it to `target`, or compressed beside it; which of the two. On the disk when it returns."""


class Stored(Protocol):
    """Where an installation keeps what is not in the database."""

    @contextmanager
    def output(self, run_id: str) -> Iterator[Found | None]:
        """None where there is none."""

    @contextmanager
    def archive(self, sha256: str) -> Iterator[Found]:
        """Raises FileNotFoundError where it is not there."""


@contextmanager
def opened(ground: Ground) -> Iterator[Stored]:
    """
    Raises:
        Refused: the object store's client is not installed; later on, that the object store is away.
    """
    if ground.object_store is None:
        yield _InFiles(ground)
        return
    with loop() as call:
        db = Database(ground.database_url.render_as_string(hide_password=False))
        try:
            yield _InObjects(db, ground, ground.object_store, call)
        except errors.Unavailable as error:
            raise Refused(f"{ground.object_store}: {error.message}") from error
        except CannotKeep as error:
            raise Refused(str(error)) from error
        finally:
            db.close()


class _File:
    def __init__(self, stored: StoredFile) -> None:
        self._stored = stored

    def blocks(self) -> Iterator[bytes]:
        return self._stored.blocks()

    def copy_to(self, target: Path) -> Path:
        """As it is, compressed or not."""
        if self._stored.is_compressed:
            target = finished_output.compressed_path(target)
        files.copy(self._stored.file, target, os.fstat(self._stored.file).st_size)
        return target


class _InFiles:
    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    @contextmanager
    def output(self, run_id: str) -> Iterator[Found | None]:
        with finished_output.opened(finished_output.path_of(self._ground.output, run_id)) as stored:
            is_there = stored is not None and os.fstat(stored.file).st_size
            yield _File(stored) if stored is not None and is_there else None

    @contextmanager
    def archive(self, sha256: str) -> Iterator[Found]:
        with finished_output.opened_file(self._ground.archives / sha256) as stored:
            yield _File(stored)


class Call(Protocol):
    """Runs a coroutine to its end, from any thread but the loop's."""

    def __call__(self, coroutine: Coroutine[Any, Any, T]) -> T: ...


class _Streamed:
    """Comes block by block; the first is here already."""

    def __init__(self, first: bytes, rest: AsyncIterator[bytes], call: Call, *, is_output: bool) -> None:
        self._first = first
        self._rest = rest
        self._call = call
        self._is_output = is_output

    def blocks(self) -> Iterator[bytes]:
        block: bytes | None = self._first
        while block:
            yield block
            block = self._call(_next(self._rest))

    def copy_to(self, target: Path) -> Path:
        """Output compressed, an archive, which is so already, as it is."""
        if self._is_output:
            target = finished_output.compressed_path(target)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            writer = seekable.Writer(file) if self._is_output else None
            for block in self.blocks():
                (writer or file).write(block)
            if writer is not None:
                writer.finish()
            file.flush()
            os.fsync(file.fileno())
        return target


class _InObjects:
    """Reads what is still in files, too."""

    def __init__(self, db: Database, ground: Ground, address: ObjectAddress, call: Call) -> None:
        self._call = call
        # Shared: a server may be at it, and its uploads are not to be swept.
        self._place = place.make(db, shared_dir=ground.shared_dir, address=address, is_shared=True)

    @contextmanager
    def output(self, run_id: str) -> Iterator[Found | None]:
        rest = self._pieces(run_id)
        first = self._call(_next(rest))
        yield _Streamed(first, rest, self._call, is_output=True) if first else None

    @contextmanager
    def archive(self, sha256: str) -> Iterator[Found]:
        rest = self._place.archives.chunks(sha256)
        yield _Streamed(self._call(_next(rest)) or b"", rest, self._call, is_output=False)

    async def _pieces(self, run_id: str) -> AsyncIterator[bytes]:
        offset = 0
        while data := await self._place.outputs.read(run_id, offset, _READ_BYTES):
            yield data
            offset += len(data)


async def _next(blocks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(blocks, None)


@contextmanager
def loop() -> Iterator[Call]:
    """An event loop in a thread of its own, and how to ask it from any other."""
    running = asyncio.new_event_loop()
    thread = threading.Thread(target=running.run_forever, name="keeping-loop", daemon=True)
    thread.start()

    def call(coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, running).result()

    try:
        yield call
    finally:
        call(running.shutdown_asyncgens())
        running.call_soon_threadsafe(running.stop)
        thread.join()
        running.close()
