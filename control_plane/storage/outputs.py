"""Run output, wherever it is kept. Bytes can be read as soon as they are appended, and are acknowledged once they are
durable. `output_files` keeps them in files, `output_objects` in an object store; this is what both promise.

Several control planes may share the place: whoever appends passes over what another one has appended before it, which
is the same, since a runner sends the same bytes again."""

from __future__ import annotations

import abc
import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from control_plane import errors

# Kept in memory behind the end for watchers who follow closely.
RECENT_BYTES = 1 << 20
# Not yet durable: past this, more has to wait.
PENDING_BYTES = 4 << 20
READ_BLOCK_BYTES = 256 << 10


class OutputGap(Exception):
    """An append that neither continues the output nor repeats it."""


class WriterFenced(Exception):
    """The run's output may be written by another assignment only, or by none: nothing was added."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Who adds to a run's output: the assignment that it has, with the fencing token of its slot."""

    assignment_id: str
    fence: int


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """What is durable of a run's output."""

    size_bytes: int = 0
    sha256: str = hashlib.sha256().hexdigest()


class RunOutput:
    """The output of one run: its end in memory. `size_bytes` counts what was appended, `durable_bytes` what is durable
    of it; what is not is in memory whole."""

    def __init__(self, run_id: str, stored: StoredOutput) -> None:
        self.run_id = run_id
        self.size_bytes = self.durable_bytes = stored.size_bytes
        self.durable_sha256 = stored.sha256
        self._recent: deque[tuple[int, bytes]] = deque()
        self._recent_bytes = 0
        self._pending: deque[bytes] = deque()
        self.on_durable: Callable[[], None] | None = None
        self.writer: Writer | None = None
        # Nobody appends to it here any more.
        self.is_left = False
        # How much there was when the run passed its gate; None before, and after a restart of this process.
        self.gate_offset: int | None = None

    @property
    def is_settled(self) -> bool:
        """All of it is durable."""
        return self.durable_bytes == self.size_bytes

    @property
    def recent_start(self) -> int:
        """From here on it is in memory."""
        return self._recent[0][0] if self._recent else self.size_bytes

    def append(self, offset: int, data: bytes) -> bool:
        """Adds bytes at `offset`, which is not before `recent_start`. Those that are there already are compared and
        passed over; False if nothing is new.

        Raises:
            OutputGap: `offset` is past the end, or the overlap holds other bytes.
        """
        if offset > self.size_bytes:
            raise OutputGap(f"bytes from {offset} on, but only {self.size_bytes} are here")
        known = self._remembered(offset, min(len(data), self.size_bytes - offset))
        if known != data[: len(known)]:
            raise differing(offset, len(known))
        data = data[len(known) :]
        if not data:
            return False
        self._recent.append((self.size_bytes, data))
        self._recent_bytes += len(data)
        self._pending.append(data)
        self.size_bytes += len(data)
        self._forget_old()
        return True

    def recent(self, offset: int) -> tuple[int, bytes] | None:
        """The piece in memory that contains `offset` (its own offset, its bytes), or None."""
        if offset < self.recent_start or offset >= self.size_bytes:
            return None
        for start, data in reversed(self._recent):
            if start <= offset:
                return start, data
        return None

    def pending(self, at_most: int | None = None) -> bytes:
        """What is not durable, from its beginning on: whole pieces up to `at_most` bytes, and one in any case."""
        chosen: list[bytes] = []
        size_bytes = 0
        for piece in self._pending:
            size_bytes += len(piece)
            if chosen and at_most is not None and size_bytes > at_most:
                break
            chosen.append(piece)
        return b"".join(chosen)

    def settle(self, length: int, sha256: str) -> None:
        """The next `length` bytes are durable; `sha256` is that of all that is now."""
        self.durable_bytes += length
        self.durable_sha256 = sha256
        while length:
            piece = self._pending.popleft()
            if len(piece) > length:
                self._pending.appendleft(piece[length:])
                break
            length -= len(piece)
        self._forget_old()
        if self.on_durable is not None:
            self.on_durable()

    def _remembered(self, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length > 0 and (piece := self.recent(offset)) is not None:
            part = piece[1][offset - piece[0] :][:length]
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


class Outputs(abc.ABC):
    """All runs' output. `serve` brings what is appended to where it is durable."""

    def __init__(self) -> None:
        self._open: dict[str, RunOutput] = {}
        self._settled = asyncio.Condition()
        # Called with the run's id after more of its output has become durable.
        self.on_stored: Callable[[str], None] = lambda _run_id: None
        # Called where more of it was found that another control plane had stored.
        self.on_found: Callable[[str], None] = lambda _run_id: None

    async def open(self, run_id: str, writer: Writer | None = None) -> RunOutput:
        """The output of an active run. `writer`: who appends to it from now on. What another one appended before it
        and is not durable is dropped.

        Raises:
            errors.Unavailable: what is stored cannot be told now.
        """
        output = self._open.get(run_id)
        if output is not None and writer is not None and output.writer not in (None, writer):
            self.leave(run_id)
            output = None
        if output is None:
            loaded = await self._load(run_id)
            output = self._open.setdefault(run_id, loaded)
            if output is not loaded:
                self._close(loaded)
        output.writer = writer or output.writer
        return output

    def opened(self, run_id: str) -> RunOutput | None:
        return self._open.get(run_id)

    async def append(self, run_id: str, offset: int, data: bytes) -> bool:
        """Adds bytes at `offset` to an output that is open. Those that are there already are compared and passed over;
        False if nothing is new.

        Raises:
            OutputGap: `offset` is past the end, or the overlap holds other bytes.
            errors.Unavailable: it cannot be compared now.
        """
        output = self._open[run_id]
        while data and offset < output.recent_start:
            length = min(len(data), output.recent_start - offset)
            # Shorter where somebody cut it off.
            if await self._read_durable(run_id, offset, length) != data[:length]:
                raise differing(offset, length)
            offset, data = offset + length, data[length:]
        if not output.append(offset, data):
            return False
        self._grew(output)
        return True

    async def make_room(self, run_id: str, length: int) -> None:
        """Returns once `length` more bytes may be appended.

        Raises:
            errors.DiskFull, errors.Unavailable: what was appended cannot be made durable now; it is held back.
            WriterFenced: nor ever.
        """
        output = self._open[run_id]
        if output.size_bytes - output.durable_bytes + length > PENDING_BYTES:
            await self._settle(output, output.size_bytes + length - PENDING_BYTES)

    async def flush(self, run_id: str) -> None:
        """Returns once all that was appended to this run is durable. Raises as `make_room`."""
        output = self._open.get(run_id)
        if output is not None:
            await self._settle(output, output.size_bytes)

    async def stored(self, run_id: str) -> StoredOutput:
        """What there is of an active run's output; what was appended is durable first, unless it is held back.
        Raises as `open`."""
        with suppress(errors.DiskFull, errors.Unavailable, WriterFenced):
            await self.flush(run_id)
        output = self._open.get(run_id)
        if output is None:
            # Not kept open: its runner may go on at another control plane, and what is known here grow old.
            output = await self._load(run_id)
            self._close(output)
        return StoredOutput(output.durable_bytes, output.durable_sha256)

    def release(self, run_id: str) -> None:
        """Closes the output of a run that is over, unless some of it is still held back."""
        output = self._open.get(run_id)
        if output is not None and output.is_settled:
            del self._open[run_id]
            self._close(output)

    def leave(self, run_id: str) -> None:
        """The run's runner may go on at another control plane: what is not yet durable it sends again there."""
        output = self._open.pop(run_id, None)
        if output is not None:
            output.is_left, output.on_durable = True, None
            self._close(output)

    async def read(self, run_id: str, offset: int, length: int) -> bytes:
        """Up to `length` bytes of any run's output from `offset`; empty at the end.

        Raises:
            errors.Unavailable: where it is kept is away.
        """
        output = self._open.get(run_id)
        if output is None:
            return await self._read_durable(run_id, offset, length)
        piece = output.recent(offset)
        if piece is not None:
            return piece[1][offset - piece[0] :][:length]
        # Before it is read the run may be over, and more be stored behind it.
        return await self._read_durable(run_id, offset, max(0, min(length, output.durable_bytes - offset)))

    async def read_stored(self, run_id: str, offset: int, length: int) -> bytes:
        """As `read`, of what is stored, whatever is open here: another control plane may have stored more."""
        return await self._read_durable(run_id, offset, length)

    async def _settle(self, output: RunOutput, target: int) -> None:
        async with self._settled:
            while output.durable_bytes < target and not output.is_left:
                self._raise_if_held_back(output)
                self._hurry(output)
                await self._settled.wait()

    async def _told_settled(self) -> None:
        """Wakes those who wait for room or for a flush: more is durable, or is held back now."""
        async with self._settled:
            self._settled.notify_all()

    @abc.abstractmethod
    async def serve(self) -> None:
        """Makes what is appended durable, until cancelled."""

    @abc.abstractmethod
    async def size_stored(self, run_id: str) -> int:
        """How much is durable of any run's output, by whichever control plane; 0 where there is none. Raises as
        `read`."""

    @abc.abstractmethod
    async def _load(self, run_id: str) -> RunOutput:
        """From what is stored."""

    @abc.abstractmethod
    async def _read_durable(self, run_id: str, offset: int, length: int) -> bytes:
        """As `read`, of what is stored."""

    @abc.abstractmethod
    def _grew(self, output: RunOutput) -> None:
        """There is more to make durable."""

    @abc.abstractmethod
    def _hurry(self, output: RunOutput) -> None:
        """Somebody waits for it to be durable."""

    @abc.abstractmethod
    def _raise_if_held_back(self, output: RunOutput) -> None:
        """Raises what `make_room` raises."""

    @abc.abstractmethod
    def _close(self, output: RunOutput) -> None:
        """It is in use no more; a write may be on its way."""


def differing(offset: int, length: int) -> OutputGap:
    return OutputGap(f"bytes {offset} to {offset + length} differ from those stored")
