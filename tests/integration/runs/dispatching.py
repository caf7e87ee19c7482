"""A real scheduler with one runner, whose runs end when the test says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import sqlalchemy as sa

from control_plane import ids
from control_plane.identity.principal import Principal
from control_plane.keys import MasterKey, Sealer
from control_plane.pools.connections import Connections, RunnerConnection
from control_plane.runs import moves, store
from control_plane.runs.feeds import Feeds
from control_plane.runs.jobs import JobBuilder
from control_plane.runs.notices import Notices
from control_plane.runs.scheduler import Scheduler
from control_plane.runs.states import RunState
from control_plane.storage import tables
from control_plane.storage.database import Database
from tests.integration.runs.conftest import RUNNER, connect_runner, insert_run, insert_stack

BOB = Principal(id="key_00000000000000000000000bob", login="bob", name="Bob")
EVE = Principal(id="key_00000000000000000000000eve", login="eve", name="Eve")


async def add_stacks(
    db: Database, stack_ids: Iterable[str], pool_id: str = "public", **columns: object
) -> None:
    """In one transaction."""

    def unit(tx: sa.Connection) -> None:
        for stack_id in stack_ids:
            insert_stack(tx, stack_id, pool_id, **columns)

    await db.write(unit)


async def queue(db: Database, by: Principal, stack_ids: Iterable[str]) -> list[str]:
    """One run each, in this order; a hundred in one transaction, so that no database is silent for long."""
    made = [(ids.new_id("run"), stack_id) for stack_id in stack_ids]

    def insert(tx: sa.Connection, rows: list[tuple[str, str]]) -> None:
        for run_id, stack_id in rows:
            insert_run(tx, run_id, stack_id, by, {})

    for first in range(0, len(made), 100):
        await db.write(partial(insert, rows=made[first : first + 100]))
    return [run_id for run_id, _ in made]


async def queue_many(db: Database, by: Principal, stack_ids: Sequence[str], of_each: int) -> None:
    """So many runs on each stack: one as it is queued, the others as copies of its row."""

    def unit(tx: sa.Connection) -> None:
        copies = []
        for stack_id in stack_ids:
            run_id = ids.new_id("run")
            insert_run(tx, run_id, stack_id, by, {})
            row = store.find(tx, run_id)
            assert row is not None
            copies += [{**row._mapping, "id": ids.new_id("run")} for _ in range(of_each - 1)]
        tx.execute(sa.insert(tables.runs), copies)
        for table in (tables.slots, tables.lanes):
            more = sa.update(table).where(table.c.stack_id.in_(stack_ids), table.c.pending > 0)
            tx.execute(more.values(pending=table.c.pending + of_each - 1))

    await db.write(unit)


@dataclass
class Dispatching:
    """Of one control plane. Several may share a database."""

    db: Database
    capacity: int = 1
    runner_id: str = RUNNER
    pool_id: str = "public"
    connections: Connections = field(default_factory=Connections)
    runner: RunnerConnection = field(init=False)
    scheduler: Scheduler = field(init=False)

    def __post_init__(self) -> None:
        sealer = Sealer(MasterKey(bytes(32)))
        self.runner = connect_runner(
            self.connections, self.runner_id, capacity=self.capacity, pool_id=self.pool_id
        )
        self.scheduler = Scheduler(self.db, self.connections, JobBuilder(sealer), sealer, Notices(Feeds()))

    async def start(self) -> list[str]:
        """Looks once; ids of the runs that the runner was given, in their order."""
        await self.scheduler._dispatch()
        given = []
        while not self.runner.outgoing.empty():
            message = self.runner.outgoing.get_nowait()
            assert message is not None
            given.append(message.assignment.assignment.run_id)
        return given

    async def end(self, run_id: str) -> None:
        """It is over, and its runner has room again."""

        def unit(tx: sa.Connection) -> str:
            run = store.find_to_move(tx, run_id)
            assert run is not None
            moves.end(tx, run, RunState.FAILED, "the test says so")
            return str(run.assignment_id)

        self.connections.freed(self.runner, await self.db.write(unit))

    async def start_all(self, at_most: int) -> list[str]:
        """Starts and ends runs, as many at a time as the runner takes, until none is left or there were so many."""
        started: list[str] = []
        while len(started) < at_most and (given := await self.start()):
            started += given
            for run_id in given:
                await self.end(run_id)
        return started


async def of(db: Database, run_ids: Sequence[str]) -> list[tuple[str, str]]:
    """(login, stack) of each."""

    def unit(tx: sa.Connection) -> list[tuple[str, str]]:
        rows = [store.find(tx, run_id) for run_id in run_ids]
        return [(row.creator_login, row.stack_id) for row in rows if row is not None]

    return await db.read(unit)
