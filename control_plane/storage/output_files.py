"""Run output: one append-only file per run. Bytes can be read as soon as they are appended, and are acknowledged
once they are on the disk. A flush for all runs goes on every 50 ms while there is something to flush
(measured best between latency and throughput).

Several control planes may share the folder: whoever appends passes over what another one has appended before it, which
is the same, since a runner sends the same bytes again. Once a run is over, its file may be compressed: `finished_output`.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from control_plane import errors
from control_plane.storage import finished_output, seekable

FLUSH_INTERVAL_S = 0.05
DISK_RETRY_S = 1.0
# Kept in memory behind the end for watchers who follow closely.
RECENT_BYTES = 1 << 20
# Not yet on the disk: past this, more has to wait until the disk has caught up.
PENDING_BYTES = 4 << 20
READ_BLOCK_BYTES = 256 << 10
_HASH_BLOCK_BYTES = 1 << 20

log = structlog.get_logger(__name__)


class DiskStalled(errors.DiskFull):
    """The disk is full; send again later, from the end of what was appended."""

    def __init__(self) -> None:
        super().__init__("the control plane's disk is full; output is held back, nothing is lost")


class OutputGap(Exception):
    """An append that neither continues the output nor repeats it."""


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """What is on the disk of a run's output."""

    size_bytes: int = 0
    sha256: str = hashlib.sha256().hexdigest()


class RunOutput:
    """The output of one run. `size_bytes` counts what was appended, `durable_bytes` what is on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # None until there is something to write: a full disk holds back this run's output and nothing else.
        self._file = _open_existing(path)
        self._sha256 = hashlib.sha256()
        self._recent: deque[tuple[int, bytes]] = deque()
        self._recent_bytes = 0
        self._pending: list[bytes] = []
        self._written = 0 if self._file is None else _hash_file(self._file, self._sha256)
        self.size_bytes = self.durable_bytes = self._written
        self.durable_sha256 = self._sha256.hexdigest()
        self.on_durable: Callable[[], None] | None = None
        # Nobody appends to it here any more.
        self.is_left = False
        # How much there was when the run passed its gate; None before, and after a restart of this process.
        self.gate_offset: int | None = None

    def append(self, offset: int, data: bytes) -> bool:
        """Adds bytes at `offset`. Those that are there already are compared and passed over; False if nothing is new.

        Raises:
            OutputGap: `offset` is past the end, or the overlap holds other bytes.
        """
        if offset > self.size_bytes:
            raise OutputGap(f"bytes from {offset} on, but only {self.size_bytes} are here")
        overlap = self.size_bytes - offset
        if overlap:
            known = data[:overlap]
            if self._stored_or_recent(offset, len(known)) != known:
                raise OutputGap(f"bytes {offset} to {offset + len(known)} differ from those stored")
            data = data[overlap:]
        if not data:
            return False
        self._recent.append((self.size_bytes, data))
        self._recent_bytes += len(data)
        self._pending.append(data)
        self.size_bytes += len(data)
        self._forget_old()
        return True

    def recent(self, offset: int) -> tuple[int, bytes] | None:
        """The piece in memory that contains `offset` (its own offset, its bytes), or None: read the file."""
        if not self._recent or offset < self._recent[0][0] or offset >= self.size_bytes:
            return None
        for start, data in reversed(self._recent):
            if start <= offset:
                return start, data
        return None

    def stored_from(self, offset: int, length: int) -> int:
        """How many of `length` bytes from `offset` on are in the file."""
        return max(0, min(length, self._written - offset))

    def read_stored(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset` of what is in the file. Blocks; not for other threads, see `close`."""
        return b"" if self._file is None else os.pread(self._file, self.stored_from(offset, length), offset)

    def write_pending(self, pending: list[bytes]) -> None:
        """Blocks. Puts `pending`, taken by `take_pending`, behind what is written, and waits for the disk."""
        if self._file is None:
            self._file = _create(self._path)
        data = b"".join(pending)
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

    def take_pending(self) -> list[bytes]:
        pending, self._pending = self._pending, []
        return pending

    def put_back(self, pending: list[bytes]) -> None:
        self._pending = pending + self._pending

    def settle(self) -> None:
        """Publishes what `write_pending` brought to the disk."""
        self.durable_bytes = self._written
        self.durable_sha256 = self._sha256.hexdigest()
        self._forget_old()
        if self.on_durable is not None:
            self.on_durable()

    @property
    def is_settled(self) -> bool:
        """Nothing of it waits for the disk, or is on its way there."""
        return self.durable_bytes == self.size_bytes

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)

    def _stored_or_recent(self, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length > 0:
            piece = self.recent(offset)
            part = piece[1][offset - piece[0] :][:length] if piece else self.read_stored(offset, length)
            if not part:
                # Somebody cut the file off.
                break
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return b"".join(parts)

    def _forget_old(self) -> None:
        while len(self._recent) > 1 and self._recent_bytes > RECENT_BYTES:
            start, data = self._recent[0]
            if start + len(data) > self.durable_bytes:
                return
            self._recent.popleft()
            self._recent_bytes -= len(data)


class OutputFiles:
    """All runs' output under one folder, and the one task that flushes it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._open: dict[str, RunOutput] = {}
        self._dirty: dict[str, RunOutput] = {}
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()
        self._settled = asyncio.Condition()
        self._is_flushing = False
        # Left while a flush may have been at them; closed behind it.
        self._left: list[RunOutput] = []
        self.disk_full = False
        # Called with the run's id after more of its output has come to the disk.
        self.on_stored: Callable[[str], None] = lambda _run_id: None

    def path(self, run_id: str) -> Path:
        # The end of an id is random: 1024 folders of about equal size.
        return self._folder / run_id[-2:] / f"{run_id}.log"

    async def open(self, run_id: str) -> RunOutput:
        """The output of an active run; reads and hashes what is stored when it is opened first."""
        output = self._open.get(run_id)
        if output is None:
            opened = await asyncio.to_thread(RunOutput, self.path(run_id))
            output = self._open.setdefault(run_id, opened)
            if output is not opened:
                opened.close()
        return output

    def opened(self, run_id: str) -> RunOutput | None:
        return self._open.get(run_id)

    def append(self, run_id: str, offset: int, data: bytes) -> bool:
        """Adds to an output that is open. As `RunOutput.append`."""
        output = self._open[run_id]
        grown = output.append(offset, data)
        if grown:
            self._dirty[run_id] = output
            self._wake.set()
        return grown

    async def make_room(self, run_id: str, length: int) -> None:
        """Returns once `length` more bytes may be appended. Raises DiskStalled where the disk is full."""
        output = self._open[run_id]
        if output.size_bytes - output.durable_bytes + length > PENDING_BYTES:
            await self._settle(output, output.size_bytes + length - PENDING_BYTES)

    async def flush(self, run_id: str) -> None:
        """Returns once all that was appended to this run is on the disk. Raises DiskStalled where the disk is full."""
        output = self._open.get(run_id)
        if output is not None:
            await self._settle(output, output.size_bytes)

    async def stored(self, run_id: str) -> StoredOutput:
        """What there is of an active run's output; what was appended is on the disk first, unless that is full."""
        with suppress(errors.DiskFull):
            await self.flush(run_id)
        output = await self.open(run_id)
        return StoredOutput(output.durable_bytes, output.durable_sha256)

    async def _settle(self, output: RunOutput, target: int) -> None:
        async with self._settled:
            while output.durable_bytes < target and not output.is_left:
                if self.disk_full:
                    raise DiskStalled
                self._urgent.set()
                self._wake.set()
                await self._settled.wait()

    def release(self, run_id: str) -> None:
        """Closes the file of a run that is over, unless a full disk still holds back some of it."""
        output = self._open.get(run_id)
        if output is not None and output.is_settled:
            del self._open[run_id]
            output.close()

    def leave(self, run_id: str) -> None:
        """The run's runner may go on at another control plane: what was not yet on the disk it sends again there."""
        output = self._open.pop(run_id, None)
        self._dirty.pop(run_id, None)
        if output is None:
            return
        output.is_left, output.on_durable = True, None
        if self._is_flushing:
            self._left.append(output)
        else:
            output.close()

    def size_on_disk(self, run_id: str) -> int:
        """Blocks. 0 where there is none."""
        return finished_output.size(self.path(run_id))

    async def read(self, run_id: str, offset: int, length: int) -> bytes:
        """Up to `length` bytes of any run's output from `offset`; empty at the end."""
        output = self._open.get(run_id)
        if output is None:
            return await asyncio.to_thread(_read, self.path(run_id), offset, length)
        piece = output.recent(offset)
        if piece is not None:
            return piece[1][offset - piece[0] :][:length]
        # Opened anew: before the thread reads, the run may be over, and its descriptor be another run's.
        return await asyncio.to_thread(_read, self.path(run_id), offset, output.stored_from(offset, length))

    async def serve(self) -> None:
        """Flushes until cancelled; then once more."""
        try:
            while True:
                await self._wake.wait()
                await self._flush_round()
                await self._pause()
        finally:
            await self._flush_round()

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
        work = [(run_id, output, output.take_pending()) for run_id, output in dirty.items()]
        self._is_flushing = True
        try:
            failed = await asyncio.to_thread(_write_all, work) if work else {}
        finally:
            self._is_flushing = False
        for run_id, output, pending in work:
            if run_id not in failed:
                output.settle()
                self.on_stored(run_id)
            elif not output.is_left:
                output.put_back(pending)
                self._dirty[run_id] = output
                self._wake.set()
        while self._left:
            self._left.pop().close()
        if bool(failed) != self.disk_full:
            self.disk_full = bool(failed)
            log.warning("output.disk_full" if failed else "output.disk_has_room", runs=len(failed))
        async with self._settled:
            self._settled.notify_all()


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


def _write_all(work: list[tuple[str, RunOutput, list[bytes]]]) -> dict[str, OSError]:
    failed: dict[str, OSError] = {}
    for run_id, output, pending in work:
        try:
            output.write_pending(pending)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            failed[run_id] = error
    return failed


def _hash_file(file: int, sha256: hashlib._Hash) -> int:
    position = 0
    while block := os.pread(file, _HASH_BLOCK_BYTES, position):
        sha256.update(block)
        position += len(block)
    return position


def _read(path: Path, offset: int, length: int) -> bytes:
    """What is damaged ends the output there: who reads it knows how long it must be."""
    try:
        return finished_output.read(path, offset, length)
    except seekable.Damaged as error:
        log.error("output.damaged", path=str(path), offset_bytes=offset, problem=str(error))
        return b""
