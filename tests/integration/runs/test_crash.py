"""Invariants 1, 2, 7 and 8: a control plane that is killed before any one statement leaves no half-made change, and
what it was asked for is done once by the next one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from control_plane.runs.states import RunState
from control_plane.storage.tables import (
    assignments,
    audit_events,
    decisions,
    requests,
    run_changes,
    runs,
    slots,
)
from tests import crashing
from tests.crashing import Crashing
from tests.integration.runs import way
from tests.integration.runs.conftest import STACK, World

WHOLE_WAY = ["QUEUED", "READY", "PREPARING", "INITIALIZING", "PERFORMING", "FINISHED"]


@pytest.fixture
async def crashes(database_url: str) -> AsyncIterator[Crashing]:
    async with crashing.opened("tests.integration.runs.way", database_url) as opened:
        yield opened


async def test_a_crash_before_any_statement_leaves_nothing_half_made_and_the_next_process_goes_on(
    world: World, crashes: Crashing
) -> None:
    reached = set()
    number, is_whole = 0, False
    while not is_whole:
        number += 1
        is_whole = await crashes.is_whole(number)
        history = await world.db.read(assert_nothing_is_half_made)
        reached.add(tuple(history))
        run_id = await way.go(world.db, f"crash-{number}")
        history = await world.db.read(assert_nothing_is_half_made)
        assert history == WHOLE_WAY
        assert (await world.state(run_id), await world.holder()) == (RunState.FINISHED, None)
    # It was killed in every state, and before the run was there at all.
    assert reached >= {tuple(WHOLE_WAY[:length]) for length in range(1, len(WHOLE_WAY) + 1)}
    created = await world.db.read(lambda tx: all_of(tx, runs))
    assert len(created) == number


def assert_nothing_is_half_made(tx: sa.Connection) -> Sequence[str]:
    """That all rows agree; the states of the newest run."""
    existing = all_of(tx, runs)
    run_ids = [run.id for run in existing]
    assert sorted(row.run_id for row in all_of(tx, decisions)) == run_ids
    assert sorted(row.resource_id for row in all_of(tx, requests)) == run_ids
    events = [row for row in all_of(tx, audit_events) if row.resource_type == "run"]
    assert sorted(row.resource_id for row in events if row.action == "task.created") == run_ids
    changes = all_of(tx, run_changes)
    states: list[str] = []
    for run in existing:
        states = [change.state for change in changes if change.run_id == run.id]
        assert states == WHOLE_WAY[: len(states)]
        assert run.state == states[-1]
        moves = [event.action for event in events if event.resource_id == run.id]
        assert moves == ["task.created", *(f"run.{state.lower()}" for state in states[1:])]
        given = [row for row in all_of(tx, assignments) if row.run_id == run.id]
        assert [row.id for row in given] == ([run.assignment_id] if run.assignment_id else [])
        assert all((row.ended_at is None) is RunState(run.state).is_active for row in given)
    [slot] = all_of(tx, slots)
    active = [run for run in existing if RunState(run.state).is_active]
    assert [run.id for run in active] == ([slot.holder_run_id] if slot.holder_run_id else [])
    assert all(run.fence == slot.fence for run in active)
    assert slot.pending == len([run for run in existing if run.state == "QUEUED"])
    assert slot.stack_id == STACK
    return states


def all_of(tx: sa.Connection, table: sa.Table) -> Sequence[sa.Row[Any]]:
    return tx.execute(sa.select(table).order_by(table.primary_key.columns[0])).all()
