"""What the scheduler took slots for is sent or given back, whatever happens between the two."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeVar

import pytest
import sqlalchemy as sa

from control_plane import errors
from control_plane.keys import Sealer
from control_plane.pools.connections import Connections
from control_plane.runs import scheduler, stop, store
from control_plane.runs.feeds import Feeds
from control_plane.runs.jobs import JobBuilder, Parts
from control_plane.runs.notices import Notices
from control_plane.runs.scheduler import Scheduler
from control_plane.runs.states import RunState
from control_plane.storage.database import Database, Unit
from interlock.v1 import runner_service_pb2 as rpc
from tests.integration.runs.conftest import ADA, OTHER_RUNNER, RUNNER, World, connect_runner

T = TypeVar("T")


class FailingDatabase(Database):
    """Its write transactions fail as often as `failures` says, from the second one on."""

    failures = 0
    writes = 0
    # Done once, in a transaction of its own before the next one.
    first: Unit[None] | None = None

    loses_a_race = False

    async def write(self, unit: Unit[T]) -> T:
        if self.loses_a_race:
            self.loses_a_race = False
            with self.engine.connect() as connection, connection.begin() as transaction:
                unit(connection)
                transaction.rollback()
        self.writes += 1
        if self.failures and self.writes > 1:
            self.failures -= 1
            raise errors.DatabaseUnavailable("it does not answer")
        first, self.first = self.first, None
        if first is not None:
            await super().write(first)
        return await super().write(unit)


class Jobs(JobBuilder):
    """Makes jobs, and lets something happen while the slot is taken."""

    meanwhile: Callable[[sa.Connection, str], None] = staticmethod(lambda _tx, _run_id: None)

    def build(
        self, connection: sa.Connection, run: sa.Row[tuple[object, ...]], pool_id: str, parts: Parts
    ) -> rpc.Job:
        self.meanwhile(connection, str(run.id))
        return super().build(connection, run, pool_id, parts)


@dataclass
class Dispatch:
    """A scheduler at work over a world of two stacks, `a` and `b`."""

    world: World
    db: FailingDatabase
    connections: Connections
    jobs: Jobs
    scheduler: Scheduler

    async def state_becomes(self, run_id: str, state: RunState) -> None:
        async with asyncio.timeout(60):
            while await self.world.state(run_id) is not state:
                await asyncio.sleep(0.01)


@pytest.fixture
async def dispatch(
    database_url: str, sealer: Sealer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Dispatch]:
    monkeypatch.setattr(scheduler, "_RETRY_S", 0.01)
    db = FailingDatabase(database_url)
    world = World(db, sealer)
    connections, notices, jobs = Connections(), Notices(Feeds()), Jobs(sealer)
    made = Scheduler(db, connections, jobs, sealer, notices)
    notices.wake_scheduler = made.wake
    for stack_id in ("a", "b"):
        await world.add_stack(stack_id)
    serving = asyncio.create_task(made.serve())
    yield Dispatch(world, db, connections, jobs, made)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    db.close()


async def test_a_run_that_cannot_be_given_back_at_once_keeps_no_other_from_its_runner(
    dispatch: Dispatch,
) -> None:
    leaving, staying = (
        connect_runner(dispatch.connections, name, capacity=1) for name in (RUNNER, OTHER_RUNNER)
    )
    first, second = await dispatch.world.queue("a"), await dispatch.world.queue("b")
    dispatch.jobs.meanwhile = lambda _tx, _run_id: setattr(leaving.status, "draining", True)
    dispatch.db.failures, dispatch.db.writes = 1, 0
    dispatch.scheduler.wake()
    sent = await asyncio.wait_for(staying.outgoing.get(), 10)
    assert sent is not None
    assert sent.assignment.assignment.run_id == second
    await dispatch.state_becomes(first, RunState.QUEUED)
    assert dispatch.db.failures == 0


async def test_a_run_whose_stop_was_asked_for_before_it_was_sent_is_stopped_and_not_queued_again(
    dispatch: Dispatch,
) -> None:
    leaving = connect_runner(dispatch.connections, capacity=1)
    run_id = await dispatch.world.queue("a")

    def stopped(tx: sa.Connection) -> None:
        run = store.find_to_move(tx, run_id)
        assert run is not None
        assert RunState(run.state) is RunState.READY
        stop.stop(tx, run, ADA)

    def runner_leaves(_tx: sa.Connection, _run_id: str) -> None:
        leaving.status.draining = True
        dispatch.db.first = stopped

    dispatch.jobs.meanwhile = runner_leaves
    dispatch.scheduler.wake()
    await dispatch.state_becomes(run_id, RunState.STOPPED)
    assert await dispatch.world.holder("a") is None


# On SQLite nobody else writes, and no unit is run twice.
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_claim_that_lost_a_race_fills_the_runner_at_its_second_attempt(dispatch: Dispatch) -> None:
    runs = {await dispatch.world.queue("a"), await dispatch.world.queue("b")}
    runner = connect_runner(dispatch.connections, capacity=2)
    dispatch.db.loses_a_race = True
    dispatch.scheduler.wake()
    sent = [await asyncio.wait_for(runner.outgoing.get(), 10) for _ in runs]
    assert {message.assignment.assignment.run_id for message in sent if message} == runs
