"""A container's output on its way into the spool: marks taken out, secrets masked, held back while there is no room.

A pure function of the container's bytes, so that a replay from the first byte gives the same masked bytes again.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import structlog

from runner.engine import OutputStream
from runner.errors import OutputDiffers
from runner.mask_commands import MaskCommandScanner, SecretAdded
from runner.masking import Masker
from runner.needles import UnmaskableSecret
from runner.phases import PhaseEnded, PhaseEvent, PhaseSplitter, StepBegan
from runner.spool import Spool

log = structlog.get_logger(__name__)

# A full disk may get room by other means than an acknowledgement.
_ROOM_CHECK_S = 1.0


class Sink(Protocol):
    """Where masked bytes go."""

    def append(self, data: bytes) -> int:
        """Takes as much as there is room for, from the front. Raises `OutputDiffers`."""


class Output:
    """One container's output, from its first byte. `on_event` is called for each mark, in order."""

    def __init__(
        self,
        *,
        nonce: str,
        masker: Masker,
        sink: Sink,
        store: Store,
        on_event: Callable[[PhaseEvent], None],
    ) -> None:
        self._splitter = PhaseSplitter(nonce)
        self._scanner = MaskCommandScanner()
        self._masker = masker
        self._sink = sink
        self._store = store
        self._on_event = on_event

    async def drain(self, stream: OutputStream) -> None:
        """Takes all of the stream. Raises `StreamCut` and `OutputDiffers`."""
        while data := await stream.read():
            await self._take(self._splitter.feed(data))

    async def finish(self) -> None:
        """The container has ended, and its stream was taken to the end."""
        await self._take(self._splitter.finish())
        await self._end_line()
        await self._store.put(self._sink, self._masker.finish())

    async def _take(self, pieces: list[bytes | PhaseEvent]) -> None:
        for piece in pieces:
            if isinstance(piece, bytes):
                await self._mask(self._scanner.feed(piece))
                continue
            if isinstance(piece, StepBegan | PhaseEnded):
                await self._end_line()
            if isinstance(piece, PhaseEnded):
                await self._store.put(self._sink, self._masker.finish())
            self._on_event(piece)

    async def _end_line(self) -> None:
        await self._mask(self._scanner.end_line())

    async def _mask(self, pieces: list[bytes | SecretAdded]) -> None:
        for piece in pieces:
            if isinstance(piece, bytes):
                await self._store.put(self._sink, self._masker.feed(piece))
            elif piece.value:
                try:
                    # A thousand secrets take a quarter of a second.
                    await asyncio.to_thread(self._masker.add, [piece.value])
                except UnmaskableSecret as error:
                    log.warning("masking.secret_refused", error=str(error))


class Store:
    """Puts bytes where they belong, and waits where there is no room. `on_held(True)` says that it waits."""

    def __init__(
        self, *, room: asyncio.Event, on_stored: Callable[[], None], on_held: Callable[[bool], None]
    ) -> None:
        self._room = room
        self._on_stored = on_stored
        self._on_held = on_held
        self.last_output_s = time.monotonic()
        """When the container last wrote something."""

    async def put(self, sink: Sink, data: bytes) -> None:
        if not data:
            return
        self.last_output_s = time.monotonic()
        self._room.clear()
        taken = sink.append(data)
        self._on_stored()
        if taken < len(data):
            await self._put_when_there_is_room(sink, data[taken:])

    async def _put_when_there_is_room(self, sink: Sink, data: bytes) -> None:
        self._on_held(True)  # noqa: FBT003
        try:
            while data:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._room.wait(), _ROOM_CHECK_S)
                self._room.clear()
                data = data[sink.append(data) :]
                self._on_stored()
        finally:
            self._on_held(False)  # noqa: FBT003


class Behind:
    """A spool, for a replay of what it has already: that much is only compared, what follows is stored."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._missing = spool.size
        self._expected = spool.sha256
        self._hash = hashlib.sha256()

    def append(self, data: bytes) -> int:
        if not self._missing:
            return self._spool.append(data)
        known = data[: self._missing]
        self._hash.update(known)
        self._missing -= len(known)
        if not self._missing and self._hash.hexdigest() != self._expected:
            raise OutputDiffers(self._spool.size, self._expected)
        rest = data[len(known) :]
        return len(known) + (self._spool.append(rest) if rest else 0)


class Nowhere:
    """For the rest of an output that can no longer be stored truthfully."""

    def append(self, data: bytes) -> int:
        return len(data)
