"""What a lost note would have told: the next round finds it in the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from control_plane import clock
from control_plane.identity.errors import BadCredentials
from control_plane.keys import MasterKey, Sealer
from control_plane.pools.connections import Connections, HeldRun, RunnerConnection
from control_plane.replicas.registry import Registry
from control_plane.replicas.rounds import Rounds
from control_plane.runs import store
from control_plane.runs.errors import TakenOver
from control_plane.runs.feeds import Feeds
from control_plane.runs.notices import Notices
from control_plane.runs.reach import Reach
from control_plane.runs.states import RunState
from control_plane.storage.database import Database
from control_plane.storage.output_files import OutputFiles
from control_plane.storage.tables import pool_tokens, runner_connections
from interlock.v1 import run_pb2
from tests.integration.runs.conftest import RUNNER, World, connect_runner

TOKEN = "ptk_1"


@dataclass
class Here:
    """This replica, going round often, with one connected runner and nobody who tells it anything."""

    world: World
    other: Registry
    registry: Registry
    runner: RunnerConnection
    feeds: Feeds
    woken: list[str] = field(default_factory=list)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not is_so():
                await asyncio.sleep(0.01)


@pytest.fixture
async def here(postgres_url: str, tmp_path: Path) -> AsyncIterator[Here]:
    db = Database(postgres_url)
    world = World(db, Sealer(MasterKey(bytes(32))))
    await world.add_stack()
    token = {"id": TOKEN, "pool_id": "public", "name": "", "secret_hash": b"", "created_at": 1}
    await db.write(lambda tx: tx.execute(sa.insert(pool_tokens), token))
    registry, other = Registry(db, lease_s=0.6), Registry(db, lease_s=0.6)
    for number, each in enumerate((registry, other)):
        (folder := tmp_path / str(number)).mkdir()
        await each.start(folder, "one")
    connections, feeds = Connections(), Feeds()
    runner = connect_runner(connections)
    claim = await registry.claim(RUNNER, pool_id="public", capacity=4, boot_id="boot-1", status=b"")
    assert claim is not None
    runner.epoch = claim.epoch
    outputs = OutputFiles(tmp_path / "output")
    reach = Reach(db, outputs, connections, Notices(feeds), registry, lease_s=0.6)
    made = Here(world, other, registry, runner, feeds)
    rounds = Rounds(
        db,
        registry,
        connections=connections,
        feeds=feeds,
        reach=reach,
        lease_s=0.6,
        wake_scheduler=lambda: made.woken.append("scheduler"),
        policies_changed=lambda: made.woken.append("policies"),
    )
    serving = [asyncio.create_task(work) for work in (rounds.serve(), reach.serve())]
    yield made
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)
    db.close()


async def test_a_pool_token_that_was_revoked_elsewhere_ends_the_stream(here: Here) -> None:
    revoked = sa.update(pool_tokens).values(revoked_at=1)
    await here.world.db.write(lambda tx: tx.execute(revoked))
    await here.until(here.runner.ended.done)
    assert isinstance(here.runner.ended.result(), BadCredentials)


async def test_a_runner_that_has_connected_elsewhere_is_let_go_here(here: Here) -> None:
    await here.other.claim(RUNNER, pool_id="public", capacity=4, boot_id="boot-1", status=b"")
    await here.until(here.runner.ended.done)
    assert isinstance(here.runner.ended.result(), TakenOver)


async def test_a_stop_that_was_asked_for_elsewhere_reaches_the_runner(here: Here) -> None:
    run_id = await here.world.queue()
    ref = await here.world.assign(run_id)
    here.runner.active[ref.assignment_id] = HeldRun(run_id, "network", ref.fencing_token, 0)
    await here.world.db.write(lambda tx: store.update(tx, run_id, stop_requested=True))
    message = await asyncio.wait_for(here.runner.outgoing.get(), 10)
    assert message is not None
    assert message.stop.assignment == ref


async def test_a_run_that_moved_elsewhere_is_shown_to_its_watchers(here: Here) -> None:
    run_id = await here.world.queue()

    async def load() -> run_pb2.Run:
        return run_pb2.Run(id=run_id)

    with here.feeds.watching(run_id, "network", load) as feed:
        await here.until(lambda: "scheduler" in here.woken)
        before = feed.version
        here.woken.clear()
        await here.until(lambda: here.woken.count("scheduler") >= 2)
        await here.world.assign(run_id)
        await here.until(lambda: feed.version > before)


async def test_a_lease_ends_though_the_replica_that_lost_the_runner_died(here: Here) -> None:
    """The run was assigned and never accepted: it goes back to the queue."""
    run_id = await here.world.queue()
    await here.world.assign(run_id, runner_id="rnr_elsewhere")
    gone = {
        "runner_id": "rnr_elsewhere", "epoch": 1, "pool_id": "public", "capacity": 1, "boot_id": "boot-1",
        "status": b"", "lost_at": clock.now_us() - 10_000_000,
    }  # fmt: skip
    await here.world.db.write(lambda tx: tx.execute(sa.insert(runner_connections), gone))
    async with asyncio.timeout(10):
        while await here.world.state(run_id) is not RunState.QUEUED:
            await asyncio.sleep(0.01)


async def test_policies_and_queue_are_looked_at_in_every_round(here: Here) -> None:
    await here.until(lambda: here.woken.count("scheduler") >= 2)
    assert here.woken.count("policies") >= 2
