"""Output of runs that are over, compressed into one object each, in place of its segments or its file. It has the same
form as a compressed file (`seekable`); of a read, only the frame that holds it is fetched, once for all who want it."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from control_plane.storage import seekable, segments
from control_plane.storage.database import Database
from control_plane.storage.seekable import Damaged, Table

if TYPE_CHECKING:
    from control_plane.storage.object_store import ObjectStore

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

# Frames of 256 KiB, and tables.
_REMEMBERED: Final = 64
_REMEMBERED_RUNS: Final = 4096
LOOK_S: Final = 30.0
# At the end of what was written, where watchers wait, and come back with each segment.
LOOK_AT_END_S: Final = 1.0
# Longer, by what a slow reader may take for one read.
STAYS_S: Final = 90.0

log = structlog.get_logger(__name__)


def key_of(run_id: str) -> str:
    """Where the pack of a run is. Whoever packs it again writes the same bytes."""
    return f"packed/{run_id[-2:]}/{run_id}.zst"


class PackedRuns:
    """Which runs' output is packed. What was written stays for longer than LOOK_S after its pack has taken its place: who
    looks that often never reads what is gone."""

    def __init__(self, db: Database) -> None:
        self._db = db
        # True, or False and when that was seen.
        self._seen: OrderedDict[str, tuple[bool, float]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[bool]] = {}

    async def has(self, run_id: str, *, within_s: float) -> bool:
        """`within_s`: a no may be so old. However many ask, the database is asked once."""
        is_packed, seen_s = self._seen.get(run_id, (False, -math.inf))
        if is_packed or asyncio.get_running_loop().time() - seen_s < within_s:
            return is_packed
        asking = self._asking.get(run_id)
        if asking is None:
            asking = self._asking[run_id] = asyncio.create_task(self._ask(run_id))
            asking.add_done_callback(partial(self._asked, run_id))
        # Who waits may leave; the others want it still.
        return await asyncio.shield(asking)

    async def _ask(self, run_id: str) -> bool:
        now_s = asyncio.get_running_loop().time()
        is_packed = await self._db.read(lambda tx: segments.is_packed(tx, run_id))
        self._seen[run_id] = (is_packed, now_s)
        if len(self._seen) > _REMEMBERED_RUNS:
            self._seen.popitem(last=False)
        return is_packed

    def _asked(self, run_id: str, asking: asyncio.Task[bool]) -> None:
        del self._asking[run_id]
        if not asking.cancelled():
            # Nobody may be left who hears of it.
            asking.exception()


class PackReader:
    """What is in packs."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._tables: OrderedDict[str, asyncio.Task[Table]] = OrderedDict()
        self._frames: OrderedDict[tuple[str, int], asyncio.Task[bytes]] = OrderedDict()

    async def read(self, run_id: str, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`, up to the end of a frame; empty at the end, and where it is gone or
        damaged, which is logged.

        Raises:
            ObjectStoreUnavailable
        """
        try:
            table = await _once(self._tables, run_id, lambda: self._table(run_id))
            if offset >= table.size_bytes:
                return b""
            index = table.frame_of(offset)
            frame = await _once(self._frames, (run_id, index), lambda: self._frame(run_id, table, index))
        except (Damaged, FileNotFoundError) as error:
            log.error(
                "output.damaged", run_id=run_id, key=key_of(run_id), offset_bytes=offset, problem=str(error)
            )
            return b""
        return frame[offset - table.offsets[index] :][:length]

    async def _table(self, run_id: str) -> Table:
        key = key_of(run_id)
        size = await self._store.size(key)
        footer_at = max(0, size - seekable.FOOTER_BYTES)
        length = seekable.table_bytes(await self._store.get(key, footer_at, size - footer_at), size)
        return seekable.parse_table(await self._store.get(key, size - length, length), size)

    async def _frame(self, run_id: str, table: Table, index: int) -> bytes:
        start, end = table.starts[index], table.starts[index + 1]
        data = await self._store.get(key_of(run_id), start, end - start)
        return await asyncio.to_thread(partial(seekable.decompress, table, index, data))


async def _once(
    known: OrderedDict[K, asyncio.Task[T]], name: K, fetch: Callable[[], Coroutine[Any, Any, T]]
) -> T:
    """What was fetched before or is on its way, however many want it. What failed is fetched again by the next."""
    task = known.get(name)
    if task is None:
        task = known[name] = asyncio.create_task(fetch())
        task.add_done_callback(partial(_forget_failed, known, name))
        if len(known) > _REMEMBERED:
            known.popitem(last=False)
    known.move_to_end(name)
    # Who waits may leave; the others want it still.
    return await asyncio.shield(task)


def _forget_failed(known: OrderedDict[K, asyncio.Task[T]], name: K, task: asyncio.Task[T]) -> None:
    if (task.cancelled() or task.exception() is not None) and known.get(name) is task:
        del known[name]
