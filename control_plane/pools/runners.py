"""Runners as people see them: what the database remembers, and what their connections say now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
import structlog

from control_plane import clock, errors
from control_plane.pools import store
from control_plane.pools.connections import Connections, RunnerConnection
from control_plane.pools.pool import KnownRunner
from control_plane.storage.database import Database

log = structlog.get_logger(__name__)

# A runner that has been gone for longer is left out of lists.
REMEMBERED_US: Final = 24 * 3600 * 1_000_000
NOTE_INTERVAL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class SeenRunner:
    known: KnownRunner
    connection: RunnerConnection | None


class Runners:
    def __init__(
        self, db: Database, connections: Connections, *, now_us: Callable[[], int] = clock.now_us
    ) -> None:
        self._db = db
        self._connections = connections
        self._now_us = now_us

    async def page(self, pool_id: str, *, after: tuple[str, str] | None, limit: int) -> list[SeenRunner]:
        """By name, then id, from the one after `after` on; `pool_id` "" for all pools.

        Raises:
            NotFound: there is no such pool.
        """
        seen_since = self._now_us() - REMEMBERED_US
        connected = [connection.runner_id for connection in self._connections.all()]

        def unit(tx: sa.Connection) -> list[KnownRunner]:
            if pool_id and store.find_pool(tx, pool_id) is None:
                raise errors.NotFound("pool", pool_id)
            return store.page_of_runners(
                tx, pool_id=pool_id, after=after, limit=limit, seen_since=seen_since, connected=connected
            )

        known = await self._db.read(unit)
        return [SeenRunner(runner, self._connections.of_runner(runner.id)) for runner in known]

    async def note_connected(self) -> None:
        """Notes that the connected runners were seen now."""
        seen = [connection.runner_id for connection in self._connections.all()]
        now = self._now_us()
        if seen:
            await self._db.write(lambda tx: store.see_runners(tx, seen, now))

    async def run(self, *, interval_s: float = NOTE_INTERVAL_S) -> None:
        """Notes it again and again, until it is cancelled: so a runner's end is known after a crash, too."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.note_connected()
            except errors.DomainError as error:
                log.warning("runners.not_noted", cause=error.message)
