"""Reading segments: which there are, and what is in them. Rows and objects never change, so both are remembered, and
however many watchers want the same, it is asked for once."""

from __future__ import annotations

import asyncio
import hashlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from control_plane.storage import segments
from control_plane.storage.database import Database
from control_plane.storage.object_store import ObjectStore
from control_plane.storage.segments import Segment

# What is fetched at once, and remembered.
BLOCK_BYTES: Final = 1 << 20
_REMEMBERED_BYTES: Final = 64 << 20
_REMEMBERED_RUNS: Final = 256
# Small segments of a command that writes little and often are fetched side by side.
_AT_ONCE: Final = 16
_LARGE_BYTES: Final = 64 << 10

log = structlog.get_logger(__name__)


@dataclass
class _Known:
    """Segments of one run that were seen, in order and without a gap."""

    offsets: list[int] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    # How many looks for more have begun.
    looks: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def end(self) -> int:
        return self.segments[-1].end if self.segments else 0

    def covering(self, offset: int, length: int) -> Sequence[Segment]:
        first = max(0, bisect_right(self.offsets, offset) - 1)
        behind = bisect_right(self.offsets, offset + length - 1)
        return [segment for segment in self.segments[first:behind] if segment.end > offset]


class SegmentIndex:
    """Which segments runs have."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._runs: OrderedDict[str, _Known] = OrderedDict()

    async def covering(self, run_id: str, offset: int, length: int) -> Sequence[Segment]:
        """Segments that hold bytes of this range, from its first on that any holds; those that were seen before, where
        they hold its beginning."""
        known = self._known(run_id)
        if offset >= known.end:
            await self._look(run_id, known)
        return known.covering(offset, length)

    async def behind(self, run_id: str, offset: int) -> Sequence[Segment]:
        """All from `offset` on, looked for anew."""
        known = self._known(run_id)
        await self._look(run_id, known)
        return [segment for segment in known.segments if segment.offset >= offset]

    def knows(self, run_id: str, offset: int) -> bool:
        """A segment with this byte was seen."""
        return run_id in self._runs and offset < self._runs[run_id].end

    def forget(self, run_id: str) -> None:
        """They are gone: a pack took their place."""
        self._runs.pop(run_id, None)

    def _known(self, run_id: str) -> _Known:
        known = self._runs.setdefault(run_id, _Known())
        self._runs.move_to_end(run_id)
        if len(self._runs) > _REMEMBERED_RUNS:
            self._runs.popitem(last=False)
        return known

    async def _look(self, run_id: str, known: _Known) -> None:
        # Who asks while a look is on its way may know of something newer: it shares the next one with all like it.
        looks = known.looks
        async with known.lock:
            if known.looks > looks:
                return
            known.looks += 1
            try:
                await self._look_behind(run_id, known)
            except BaseException:
                # It saw nothing: whoever waits for it looks again.
                known.looks -= 1
                raise

    async def _look_behind(self, run_id: str, known: _Known) -> None:
        while True:
            end = known.end
            page = await self._db.read(partial(segments.behind, run_id=run_id, offset=end))
            for segment in page:
                if known.segments and segment.offset != known.end:
                    log.error("output.damaged", run_id=run_id, offset_bytes=known.end, problem="a gap")
                    return
                known.offsets.append(segment.offset)
                known.segments.append(segment)
            if known.end == end:
                return


class SegmentReader:
    """What is in segments."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._blocks: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._remembered_bytes = 0
        self._fetching: dict[tuple[str, int], asyncio.Task[bytes]] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def read(self, covering: Sequence[Segment], offset: int, length: int) -> bytes:
        """The bytes from `offset` on that `covering` holds, up to `length`. Shorter where one is gone or damaged.

        Raises:
            ObjectStoreUnavailable
        """
        wanted = [
            (segment, number)
            for segment in covering
            for number in range(-(-segment.size_bytes // BLOCK_BYTES))
            if _begin(segment, number) < offset + length and _end(segment, number) > offset
        ]
        blocks = await asyncio.gather(*(self._block(segment, number) for segment, number in wanted))
        parts: list[bytes] = []
        for (segment, number), block in zip(wanted, blocks, strict=True):
            begin = _begin(segment, number)
            parts.append(block[max(0, offset - begin) : offset + length - begin])
            if begin + len(block) != _end(segment, number):
                break
        return b"".join(parts)

    async def _block(self, segment: Segment, number: int) -> bytes:
        """Empty where it is gone or damaged, which is logged: the output ends there, for whoever reads it."""
        name = (segment.key, number)
        block = self._blocks.get(name)
        if block is not None:
            self._blocks.move_to_end(name)
            return block
        fetching = self._fetching.get(name)
        if fetching is None:
            fetching = self._fetching[name] = asyncio.create_task(self._fetch(segment, number))
            fetching.add_done_callback(partial(self._fetched, name))
        return await asyncio.shield(fetching)

    def _fetched(self, name: tuple[str, int], fetching: asyncio.Task[bytes]) -> None:
        del self._fetching[name]
        if not fetching.cancelled():
            # Who waited for it may be gone: then nobody asks what became of it.
            fetching.exception()

    async def _fetch(self, segment: Segment, number: int) -> bytes:
        length = _end(segment, number) - _begin(segment, number)
        try:
            async with self._places:
                block = await self._store.get(segment.key, number * BLOCK_BYTES, length)
        except FileNotFoundError:
            return self._damaged(segment, "its object is gone")
        if len(block) != length:
            return self._damaged(segment, "its object is too short")
        if length == segment.size_bytes and await _digest(block) != segment.sha256:
            return self._damaged(segment, "its object holds other bytes")
        self._remember((segment.key, number), block)
        return block

    def _damaged(self, segment: Segment, problem: str) -> bytes:
        log.error(
            "output.damaged",
            run_id=segment.run_id,
            key=segment.key,
            offset_bytes=segment.offset,
            problem=problem,
        )
        return b""

    def _remember(self, name: tuple[str, int], block: bytes) -> None:
        self._blocks[name] = block
        self._remembered_bytes += len(block)
        while self._remembered_bytes > _REMEMBERED_BYTES:
            _, oldest = self._blocks.popitem(last=False)
            self._remembered_bytes -= len(oldest)


def _begin(segment: Segment, number: int) -> int:
    return segment.offset + number * BLOCK_BYTES


def _end(segment: Segment, number: int) -> int:
    return min(segment.end, _begin(segment, number + 1))


async def _digest(block: bytes) -> str:
    if len(block) < _LARGE_BYTES:
        return hashlib.sha256(block).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(block).hexdigest())
