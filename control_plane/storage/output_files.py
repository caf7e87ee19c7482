"""Run output in files: one append-only file per run. A flush for all runs goes on every 50 ms while there is something
to flush (measured best between latency and throughput). Several control planes may share the folder. Once a run is
over, its file may be compressed: `finished_output`."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
from pathlib import Path

import structlog

from control_plane import errors
from control_plane.storage import finished_output, seekable
from control_plane.storage.outputs import Outputs, RunOutput, StoredOutput

FLUSH_INTERVAL_S = 0.05
DISK_RETRY_S = 1.0
_HASH_BLOCK_BYTES = 1 << 20

log = structlog.get_logger(__name__)


class DiskStalled(errors.DiskFull):
    """The disk is full; send again later, from the end of what was appended."""

    def __init__(self) -> None:
        super().__init__("the control plane's disk is full; output is held back, nothing is lost")


class FileOutput(RunOutput):
    """The output of one run, with its file."""

    def __init__(self, run_id: str, path: Path) -> None:
        """Blocks: reads what is there."""
        self._path = path
        # None until there is something to write: a full disk holds back this run's output and nothing else.
        self._file = _open_existing(path)
        self._sha256 = hashlib.sha256()
        self._written = 0 if self._file is None else _hash_file(self._file, self._sha256)
        super().__init__(run_id, self.on_disk)

    @property
    def on_disk(self) -> StoredOutput:
        """With what `write` has brought there since the last `settle`."""
        return StoredOutput(self._written, self._sha256.hexdigest())

    def write(self, data: bytes) -> None:
        """Blocks. Puts `data` behind what is written, and waits for the disk."""
        if self._file is None:
            self._file = _create(self._path)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            position = self._written + self._there_already(self._file, data)
            view = memoryview(data)[position - self._written :]
            while view:
                count = os.pwrite(self._file, view, position)
                view = view[count:]
                position += count
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        os.fdatasync(self._file)
        self._sha256.update(data)
        self._written += len(data)

    def _there_already(self, file: int, data: bytes) -> int:
        """How many bytes of `data` the file has: of a write that failed, or of the control plane that had the run."""
        found = os.pread(file, len(data), self._written)
        if found != data[: len(found)]:
            log.error("output.differs", path=str(self._path), offset_bytes=self._written)
            raise OSError(errno.EIO, "other bytes are there than the runner has sent", str(self._path))
        return len(found)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)


class OutputFiles(Outputs):
    """All runs' output under one folder, and the one task that flushes it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._dirty: dict[str, FileOutput] = {}
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()
        self._is_flushing = False
        # Out of use while a flush may have been at them; closed behind it.
        self._to_close: list[FileOutput] = []
        self.disk_full = False

    def path(self, run_id: str) -> Path:
        return finished_output.path_of(self.folder, run_id)

    async def size_stored(self, run_id: str) -> int:
        return await asyncio.to_thread(finished_output.size, self.path(run_id))

    async def on_disk(self, run_id: str) -> StoredOutput:
        """What any run's file has, whoever wrote it."""
        return await asyncio.to_thread(_on_disk, self.path(run_id))

    async def serve(self) -> None:
        """Flushes until cancelled; then once more."""
        try:
            while True:
                await self._wake.wait()
                await self._flush_round()
                await self._pause()
        finally:
            await self._flush_round()

    async def _load(self, run_id: str) -> RunOutput:
        return await asyncio.to_thread(FileOutput, run_id, self.path(run_id))

    async def _read_durable(self, run_id: str, offset: int, length: int) -> bytes:
        # Opened anew: before the thread reads, a descriptor that is open here may be another run's.
        return await asyncio.to_thread(_read, self.path(run_id), offset, length)

    def _grew(self, output: RunOutput) -> None:
        assert isinstance(output, FileOutput)
        self._dirty[output.run_id] = output
        self._wake.set()

    def _hurry(self, _output: RunOutput) -> None:
        self._urgent.set()
        self._wake.set()

    def _raise_if_held_back(self, _output: RunOutput) -> None:
        if self.disk_full:
            raise DiskStalled

    def _close(self, output: RunOutput) -> None:
        assert isinstance(output, FileOutput)
        if self._dirty.get(output.run_id) is output:
            del self._dirty[output.run_id]
        if self._is_flushing:
            self._to_close.append(output)
        else:
            output.close()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(DISK_RETRY_S if self.disk_full else FLUSH_INTERVAL_S):
                await self._urgent.wait()
        except TimeoutError:
            return
        self._urgent.clear()

    async def _flush_round(self) -> None:
        self._wake.clear()
        dirty, self._dirty = self._dirty, {}
        work = [(output, output.pending()) for output in dirty.values()]
        self._is_flushing = True
        try:
            failed = await asyncio.to_thread(_write_all, work) if work else {}
        finally:
            self._is_flushing = False
        for output, data in work:
            if output.run_id not in failed:
                output.settle(len(data), output.on_disk.sha256)
                self.on_stored(output.run_id)
            elif not output.is_left:
                self._grew(output)
        while self._to_close:
            self._to_close.pop().close()
        if bool(failed) != self.disk_full:
            self.disk_full = bool(failed)
            log.warning("output.disk_full" if failed else "output.disk_has_room", runs=len(failed))
        await self._told_settled()


def _open_existing(path: Path) -> int | None:
    """None where there is none yet. What is in it is on the disk afterwards."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    os.fdatasync(file)
    return file


def _create(path: Path) -> int:
    """An empty file whose name is on the disk."""
    path.parent.mkdir(exist_ok=True, mode=0o700)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for folder in (path.parent, path.parent.parent):
            finished_output.sync_folder(folder)
    except OSError:
        os.close(file)
        raise
    return file


def _write_all(work: list[tuple[FileOutput, bytes]]) -> dict[str, OSError]:
    failed: dict[str, OSError] = {}
    for output, data in work:
        try:
            output.write(data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            failed[output.run_id] = error
    return failed


def _hash_file(file: int, sha256: hashlib._Hash) -> int:
    position = 0
    while block := os.pread(file, _HASH_BLOCK_BYTES, position):
        sha256.update(block)
        position += len(block)
    return position


def _on_disk(path: Path) -> StoredOutput:
    sha256, size_bytes = hashlib.sha256(), 0
    with finished_output.opened(path) as stored:
        for block in () if stored is None else stored.blocks():
            sha256.update(block)
            size_bytes += len(block)
    return StoredOutput(size_bytes, sha256.hexdigest())


def _read(path: Path, offset: int, length: int) -> bytes:
    """What is damaged ends the output there: who reads it knows how long it must be."""
    try:
        return finished_output.read(path, offset, length)
    except seekable.Damaged as error:
        log.error("output.damaged", path=str(path), offset_bytes=offset, problem=str(error))
        return b""
