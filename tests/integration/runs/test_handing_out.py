"""Runs that are claimed together: each is recorded as one that is claimed alone, and costs little more."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from control_plane.runs import moves, store
from control_plane.runs.states import RunState
from control_plane.storage import tables
from tests.integration.runs.conftest import RUNNER, World
from tests.integration.runs.dispatching import Dispatching

# Who waits for the slot, the run, and the slot itself.
PER_CLAIM = 3


async def test_each_run_of_a_batch_has_its_assignment_its_history_and_its_audit_event(world: World) -> None:
    runs = await _queue(world, ["a", "b", "c"])
    given = await Dispatching(world.db, capacity=3).start()
    assert sorted(given) == sorted(runs.values())
    for stack_id, run_id in runs.items():
        row = await world.row(run_id)
        assert (row.state, row.stack_id, row.runner_id != "") == (RunState.READY.value, stack_id, True)
        assert await _assigned(world, run_id) == [(row.assignment_id, row.fence)]
        assert await _last(world, run_id) == ("READY", "run.ready")
        assert await world.holder(stack_id) == run_id


async def test_a_run_whose_job_cannot_be_made_fails_alone_and_frees_its_slot(world: World) -> None:
    runs = await _queue(world, ["a", "c"])
    # Its stack's source is no git repository any more.
    await world.add_stack("b")
    broken = await world.queue("b", commit_hash="0" * 40, commit_ref="main")
    behind = await world.queue("b")
    dispatching = Dispatching(world.db, capacity=4)
    assert sorted(await dispatching.start()) == sorted(runs.values())
    row = await world.row(broken)
    assert (row.state, row.assignment_id) == (RunState.FAILED.value, "")
    assert await _assigned(world, broken) == []
    assert await _last(world, broken) == ("FAILED", "run.failed")
    assert await dispatching.start() == [behind]


async def test_one_more_run_in_a_batch_costs_three_more_statements(world: World) -> None:
    await _queue(world, [f"s{number}" for number in range(10)])
    statements: list[str] = []

    def count(*what: object) -> None:
        statements.append(str(what[2]))

    sa.event.listen(world.db.engine, "before_cursor_execute", count)
    costs = []
    # The first look of all makes the caller's row among the turns.
    for capacity in (1, 1, 8):
        statements.clear()
        assert len(await Dispatching(world.db, capacity=capacity).start()) == capacity
        costs.append(len(statements))
    assert costs[2] - costs[1] == 7 * PER_CLAIM


async def test_a_batch_in_which_one_run_was_moved_meanwhile_is_given_up_as_a_whole(world: World) -> None:
    runs = await _queue(world, ["a", "b"])
    rows = [await world.row(run_id) for run_id in runs.values()]
    await world.assign(runs["b"])

    def unit(tx: sa.Connection) -> None:
        columns: dict[str, object] = {"runner_id": RUNNER}
        moves.advance_all(tx, [(row, columns) for row in rows], RunState.READY, "too late")

    with pytest.raises(moves.SlotLost, match=runs["b"]):
        await world.db.write(unit)
    assert await world.state(runs["a"]) is RunState.QUEUED


async def _queue(world: World, stack_ids: list[str]) -> dict[str, str]:
    """One run on each of these new stacks, by stack."""
    for stack_id in stack_ids:
        await world.add_stack(stack_id)
    return {stack_id: await world.queue(stack_id) for stack_id in stack_ids}


async def _assigned(world: World, run_id: str) -> list[tuple[str, int]]:
    found = sa.select(tables.assignments.c.id, tables.assignments.c.fence).where(
        tables.assignments.c.run_id == run_id
    )
    return [(row.id, row.fence) for row in await world.db.read(lambda tx: tx.execute(found).all())]


async def _last(world: World, run_id: str) -> tuple[str, str]:
    """The last state in its history, and the last action in the audit log."""
    events = tables.audit_events
    actions = sa.select(events.c.action).where(events.c.resource_id == run_id).order_by(events.c.id)
    history = await world.db.read(lambda tx: store.history(tx, run_id))
    logged = await world.db.read(lambda tx: tx.execute(actions).scalars().all())
    return history[-1].state, logged[-1]
