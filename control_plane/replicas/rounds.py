"""What is looked for again and again, because a note may be lost: a sign of life, and all that others may have changed.

About two statements a second, however many runners are connected. SQLite needs none of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
import structlog

from control_plane import clock, errors
from control_plane.errors import ShuttingDown
from control_plane.identity.errors import BadCredentials
from control_plane.pools.connections import Connections, RunnerConnection
from control_plane.replicas import store
from control_plane.replicas.registry import Registry
from control_plane.runs.errors import TakenOver
from control_plane.runs.feeds import Feeds
from control_plane.runs.reach import Reach
from control_plane.runs.stop import ask_runner
from control_plane.storage.database import Database

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the database says at one moment."""

    epochs: dict[str, int]
    to_stop: list[str]
    tokens_in_force: set[str]
    overdue: list[str]
    forlorn: list[str]
    marks: dict[str, tuple[object, ...]]


class Rounds:
    """`lease_s`: how long a runner may be nowhere before its runs that have not passed their gate end."""

    def __init__(
        self,
        db: Database,
        registry: Registry,
        *,
        connections: Connections,
        feeds: Feeds,
        reach: Reach,
        lease_s: float,
        wake_scheduler: Callable[[], None],
        policies_changed: Callable[[], None],
    ) -> None:
        self._db = db
        self._registry = registry
        self._connections = connections
        self._feeds = feeds
        self._reach = reach
        self._lease_us = int(lease_s * 1e6)
        self._wake_scheduler = wake_scheduler
        self._policies_changed = policies_changed
        self._interval_s: Final = registry.beat_s
        self._marks: dict[str, tuple[object, ...]] = {}
        self._soon = asyncio.Event()

    def missed(self) -> None:
        """Notes may have been lost: all that is watched is read again, and a round begins at once."""
        self._feeds.all_changed()
        self._soon.set()

    async def serve(self) -> None:
        """Goes round until cancelled. While the database is away, nothing is decided."""
        while True:
            self._soon.clear()
            try:
                await self._go_round()
            except errors.DomainError as error:
                log.warning("rounds.failed", cause=error.message)
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._soon.wait()
            except TimeoutError:
                continue

    async def _go_round(self) -> None:
        signs = await self._registry.give_sign()
        if not signs.was_known:
            # The others have given its runners away: each connects again, wherever it likes.
            log.warning("replica.was_given_up", replica_id=self._registry.id)
            for connection in self._connections.all():
                connection.end(ShuttingDown())
        # Before the look, so that a runner that connects meanwhile is not judged by it.
        mine = self._connections.all()
        watched = self._feeds.watched()
        tokens = {connection.token_id for connection in mine}
        before = clock.now_us() - self._lease_us
        seen = await self._db.read(lambda tx: _look(tx, self._registry.id, tokens, watched, before))
        for connection in mine:
            self._settle(connection, seen)
        for run_id in seen.to_stop:
            ask_runner(self._connections, run_id)
        for runner_id in {*signs.orphans, *seen.forlorn}:
            self._reach.orphaned(runner_id)
        for runner_id in seen.overdue:
            self._reach.overdue(runner_id, before)
        self._show(seen)
        if signs.orphans:
            self._feeds.all_changed()
        self._policies_changed()
        self._wake_scheduler()

    def _settle(self, connection: RunnerConnection, seen: _Seen) -> None:
        """Ends a stream whose runner is connected elsewhere, or whose token is not in force any more."""
        if connection.token_id not in seen.tokens_in_force:
            connection.end(BadCredentials("pool token"))
        elif seen.epochs.get(connection.runner_id) != connection.epoch:
            connection.end(TakenOver(connection.runner_id))

    def _show(self, seen: _Seen) -> None:
        for run_id, mark in seen.marks.items():
            if self._marks.get(run_id, mark) != mark:
                self._feeds.run_changed(run_id)
            else:
                self._feeds.output_grew(run_id)
        self._marks = seen.marks


def _look(tx: sa.Connection, replica_id: str, tokens: set[str], watched: list[str], before_us: int) -> _Seen:
    return _Seen(
        store.epochs_of_replica(tx, replica_id),
        store.to_stop(tx, replica_id),
        store.tokens_in_force(tx, tokens),
        store.overdue(tx, before_us),
        store.forlorn(tx),
        store.marks_of_runs(tx, watched),
    )
