"""Runners as people see them: what the database remembers, and what their connections say now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
import structlog

from control_plane import clock, errors
from control_plane.pools import store
from control_plane.pools.connections import Connections, RunnerConnection
from control_plane.pools.pool import KnownRunner
from control_plane.replicas.registry import Registry
from control_plane.replicas.store import RemoteRunner
from control_plane.storage.database import Database

log = structlog.get_logger(__name__)

# A runner that has been gone for longer is left out of lists.
REMEMBERED_US: Final = 24 * 3600 * 1_000_000
NOTE_INTERVAL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class SeenRunner:
    known: KnownRunner
    # Where it is connected to this control plane, and where to another one.
    connection: RunnerConnection | None
    remote: RemoteRunner | None = None
    active_run_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Room:
    """How many runners of a pool are connected, and how many runs they can take now."""

    connected_runners: int
    free_capacity: int

    @classmethod
    def of(cls, connections: Sequence[RunnerConnection]) -> Room:
        return cls(len(connections), sum(connection.free_capacity for connection in connections))

    def __add__(self, other: Room) -> Room:
        return Room(
            self.connected_runners + other.connected_runners, self.free_capacity + other.free_capacity
        )


class Runners:
    def __init__(
        self,
        db: Database,
        connections: Connections,
        replicas: Registry,
        *,
        now_us: Callable[[], int] = clock.now_us,
    ) -> None:
        self._db = db
        self._replicas = replicas
        self._connections = connections
        self._now_us = now_us

    async def page(self, pool_id: str, *, after: tuple[str, str] | None, limit: int) -> list[SeenRunner]:
        """By name, then id, from the one after `after` on; `pool_id` "" for all pools.

        Raises:
            NotFound: there is no such pool.
        """
        seen_since = self._now_us() - REMEMBERED_US
        here = {connection.runner_id: connection for connection in self._connections.all()}

        def unit(tx: sa.Connection) -> list[SeenRunner]:
            if pool_id and store.find_pool(tx, pool_id) is None:
                raise errors.NotFound("pool", pool_id)
            elsewhere = {runner.runner_id: runner for runner in self._replicas.elsewhere(tx, pool_id)}
            known = store.page_of_runners(
                tx,
                pool_id=pool_id,
                after=after,
                limit=limit,
                seen_since=seen_since,
                connected=[*here, *elsewhere],
            )
            active = store.active_runs_of(tx, [runner.id for runner in known if runner.id in elsewhere])
            return [_seen(runner, here.get(runner.id), elsewhere.get(runner.id), active) for runner in known]

        return await self._db.read(unit)

    async def room(self, pool_ids: Sequence[str]) -> dict[str, Room]:
        """By pool, what is connected to any replica."""
        rooms = {pool_id: Room.of(self._connections.of_pool(pool_id)) for pool_id in pool_ids}
        if not self._replicas.is_alone:
            for runner in await self._db.read(self._replicas.elsewhere):
                if runner.pool_id in rooms:
                    rooms[runner.pool_id] += Room(1, runner.free_capacity)
        return rooms

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


def _seen(
    known: KnownRunner,
    connection: RunnerConnection | None,
    remote: RemoteRunner | None,
    active: Mapping[str, Sequence[str]],
) -> SeenRunner:
    if connection is not None:
        held = tuple(sorted(run.run_id for run in connection.active.values()))
        return SeenRunner(known, connection, None, held)
    return SeenRunner(known, None, remote, tuple(active.get(known.id, ())))
