"""The leases of holds run down here: of those that wait, once nobody does any more; of those offered or held, once
nobody confirms or renews. What would have been heard had we been there counts against nobody."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
import structlog

from control_plane import errors
from control_plane.runs import hold_store, holds
from control_plane.runs.feeds import Feeds
from control_plane.runs.notices import Notices
from control_plane.storage.database import Database
from control_plane.storage.shared_clock import now_us

LOOK_S: Final = 5.0
# Two looks so far apart have something between them in which we heard nobody: a frozen process, a database that was away.
_GAP_S: Final = 3 * LOOK_S
_AT_MOST: Final = 100

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the database says at one moment."""

    now_us: int
    served_since_us: int
    over: Sequence[str]
    next_end_us: int | None
    in_turn: Sequence[str]


class HoldLeases:
    """One per control plane. Several may work on one database: a lease is ended in one transaction, once."""

    def __init__(self, db: Database, feeds: Feeds, notices: Notices) -> None:
        self._db = db
        self._feeds = feeds
        self._notices = notices
        self._attended: Counter[str] = Counter()
        self._departed: set[str] = set()
        self._awake = asyncio.Event()
        # By the database's clock: since when a renewal would have been heard here without a break. None: not yet.
        self._served_since_us: int | None = None
        self._last_look_s = 0.0
        self._next_look_s = 0.0

    @contextmanager
    def attended(self, run_id: str) -> Iterator[None]:
        """Somebody waits here for this hold: it keeps its place in the queue, and a little longer."""
        self._attended[run_id] += 1
        self._departed.discard(run_id)
        self._awake.set()
        try:
            yield
        finally:
            self._attended[run_id] -= 1
            if not self._attended[run_id]:
                del self._attended[run_id]
                self._departed.add(run_id)
                self._awake.set()

    def begun(self, lease_us: int) -> None:
        """A lease of this length begins now."""
        if _time_s() + lease_us / 1e6 < self._next_look_s:
            self._awake.set()

    async def serve(self) -> None:
        """Looks until cancelled. While the database is away, nothing ends."""
        while True:
            self._awake.clear()
            self._next_look_s = _time_s() + await self._looked()
            try:
                async with asyncio.timeout_at(self._next_look_s):
                    await self._awake.wait()
            except TimeoutError:
                continue

    async def look(self) -> float:
        """Ends what is over. Returns in how many seconds the next lease ends, LOOK_S at most."""
        attended, departed = tuple(self._attended), tuple(self._departed)
        if attended or departed:
            await self._db.write(lambda tx: _attend(tx, attended, departed))
            self._departed.difference_update(departed)
        served_since_us = self._served_since()
        seen = await self._db.read(lambda tx: _look(tx, attended, served_since_us))
        self._served_since_us = seen.served_since_us
        for run_id in seen.over:
            await self._expire(run_id, seen.served_since_us)
        # A note of another replica may be lost: who waits here is told again that it is their turn.
        for run_id in seen.in_turn:
            self._feeds.run_changed(run_id)
        if len(seen.over) == _AT_MOST:
            return 0.0
        return LOOK_S if seen.next_end_us is None else min(LOOK_S, (seen.next_end_us - seen.now_us) / 1e6)

    async def _looked(self) -> float:
        try:
            return await self.look()
        except errors.DomainError as error:
            log.warning("hold_leases.failed", cause=error.message)
            self._served_since_us = None
            return LOOK_S

    def _served_since(self) -> int | None:
        before_s, self._last_look_s = self._last_look_s, _time_s()
        return None if self._last_look_s - before_s > _GAP_S else self._served_since_us

    async def _expire(self, run_id: str, served_since_us: int) -> None:
        run = await self._db.write(lambda tx: holds.expire(tx, run_id, served_since_us))
        if run is not None:
            log.info("hold.lease_ended", run_id=run_id, stack_id=run.stack_id, was=run.state)
            self._notices.run_moved(run_id)
            self._notices.queue_changed(run.stack_id)


def _attend(connection: sa.Connection, attended: Sequence[str], departed: Sequence[str]) -> None:
    now = now_us(connection)
    hold_store.attend(connection, attended, now + holds.WAIT_US)
    hold_store.leave(connection, departed, now + holds.GONE_US)


def _look(connection: sa.Connection, attended: Sequence[str], served_since_us: int | None) -> _Seen:
    now = now_us(connection)
    since = now if served_since_us is None else served_since_us
    over = hold_store.over(
        connection, now, now - since, wait_us=holds.WAIT_US, offer_us=holds.OFFER_US, at_most=_AT_MOST
    )
    return _Seen(
        now,
        since,
        over,
        hold_store.next_end(connection, now),
        hold_store.next_in_turn(connection, attended),
    )


def _time_s() -> float:
    return asyncio.get_running_loop().time()
