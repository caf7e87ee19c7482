"""Lanes say what is queued, whatever happens at once: nothing that waits is forgotten, and nothing is counted twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import sqlalchemy as sa

from control_plane.identity.principal import Principal
from control_plane.queue import lanes
from control_plane.runs import stop, store
from control_plane.runs.states import RunState
from control_plane.stacks import store as stacks
from control_plane.storage import tables
from control_plane.storage.database import Database
from tests.integration.runs.conftest import ADA, OTHER_RUNNER
from tests.integration.runs.dispatching import BOB, EVE, Dispatching, add_stacks, queue

STACKS = ["a", "b", "c", "d"]
SEED = 7


async def test_lanes_agree_with_their_queues_after_calls_and_two_schedulers_at_once(db: Database) -> None:
    await add_stacks(db, STACKS)
    schedulers = [Dispatching(db, capacity=2), Dispatching(db, capacity=2, runner_id=OTHER_RUNNER)]
    await asyncio.gather(
        *(_call(db, by, random.Random(f"{SEED}/{by.login}")) for by in (ADA, BOB, EVE)),
        *(_dispatch(each) for each in schedulers),
        _lock_and_unlock(db, random.Random(f"{SEED}/locks")),
    )
    for each in schedulers:
        for held in list(each.runner.active.values()):
            await each.end(held.run_id)
    await db.read(_agree)
    while started := await schedulers[0].start():
        for run_id in started:
            await schedulers[0].end(run_id)
    await db.read(_agree)
    assert not await db.read(_queued)


async def _call(db: Database, by: Principal, dice: random.Random) -> None:
    """Queues runs, and discards every fourth."""
    for number in range(16):
        [run_id] = await queue(db, by, [dice.choice(STACKS)])
        if number % 4 == 3:
            await db.write(lambda tx, run_id=run_id: _discard(tx, run_id, by))  # type: ignore[misc]


async def _dispatch(dispatching: Dispatching) -> None:
    for _ in range(12):
        for run_id in await dispatching.start():
            await dispatching.end(run_id)


async def _lock_and_unlock(db: Database, dice: random.Random) -> None:
    for number in range(16):
        stack_id, owner_id = dice.choice(STACKS), None if number % 2 else BOB.id
        await db.write(lambda tx, each=(stack_id, owner_id): _lock(tx, *each))  # type: ignore[misc]
    for stack_id in STACKS:
        await db.write(lambda tx, stack_id=stack_id: _lock(tx, stack_id, None))  # type: ignore[misc]


def _lock(tx: sa.Connection, stack_id: str, owner_id: str | None) -> None:
    stacks.hold(tx, [stack_id])
    stacks.change(tx, stack_id, lock_owner_id=owner_id, lock_owner=b"" if owner_id else None, locked_at=1)
    lanes.stack_changed(tx, stack_id)


def _discard(tx: sa.Connection, run_id: str, by: Principal) -> None:
    run = store.find_to_move(tx, run_id)
    assert run is not None
    if RunState(run.state) is RunState.QUEUED:
        stop.stop(tx, run, by)


def _queued(tx: sa.Connection) -> Counter[tuple[str, str]]:
    runs = tables.runs.c
    rows = tx.execute(sa.select(runs.stack_id, runs.creator_id).where(runs.state == "QUEUED"))
    return Counter((row.stack_id, row.creator_id) for row in rows)


def _agree(tx: sa.Connection) -> None:
    """While no slot is taken and no stack is locked."""
    queued = _queued(tx)
    waiting = [row for row in tx.execute(sa.select(tables.lanes)) if row.pending]
    assert {(row.stack_id, row.creator_id): row.pending for row in waiting} == queued
    assert all(row.open_since is not None for row in waiting)
    for slot in tx.execute(sa.select(tables.slots)):
        assert slot.holder_run_id is None
        assert slot.pending == sum(
            count for (stack_id, _), count in queued.items() if stack_id == slot.stack_id
        )
