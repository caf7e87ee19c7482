"""That the database says what is expected, row by row, and that each row agrees with the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from control_plane.storage.tables import (
    assignments,
    audit_events,
    decisions,
    lanes,
    requests,
    run_changes,
    runs,
    slots,
)
from tests.integration.runs.model.expected import Expected, Ref, Run, Stack

Rows = Sequence[sa.Row[Any]]


def assert_agrees(tx: sa.Connection, expected: Expected) -> None:
    """All that is stored of the stacks of `expected`."""
    stack_ids = sorted(expected.stacks)
    stored = {row.id: row for row in _rows(tx, runs, runs.c.stack_id.in_(stack_ids))}
    assert stored.keys() == expected.runs.keys()
    ids = list(stored)
    history = _by(_rows(tx, run_changes, run_changes.c.run_id.in_(ids)), "run_id")
    events = _by(_rows(tx, audit_events, audit_events.c.resource_id.in_(ids)), "resource_id")
    given = _by(_rows(tx, assignments, assignments.c.stack_id.in_(stack_ids)), "run_id")
    for run in expected.runs.values():
        row = stored[run.id]
        assert [change.state for change in history[run.id]] == run.states
        assert [event.action for event in events[run.id]] == run.audited
        _assert_is(row, run)
        _assert_given(given[run.id], run, row)
    for row in _rows(tx, slots, slots.c.stack_id.in_(stack_ids)):
        stack = expected.stacks[row.stack_id]
        assert (row.holder_run_id, row.fence) == (stack.holder, stack.fence)
        assert row.pending == len(expected.pending(row.stack_id))
        _assert_one_active(row, stored, stack)
    waiting = {row.stack_id: row for row in _rows(tx, lanes, lanes.c.stack_id.in_(stack_ids)) if row.pending}
    assert waiting.keys() == {each for each in stack_ids if expected.pending(each)}
    for stack_id, row in waiting.items():
        # One caller makes them all.
        assert row.pending == len(expected.pending(stack_id))
        assert (row.open_since is None) == bool(expected.stacks[stack_id].holder)
    tasks = [run.id for run in expected.runs.values() if not (run.is_tracked or run.is_hold)]
    assert sorted(row.run_id for row in _rows(tx, decisions, decisions.c.stack_id.in_(stack_ids))) == sorted(
        tasks
    )
    creating = requests.c.method.in_(["CreateTask", "StartRun", "AcquireSlot"])
    made = _rows(tx, requests, requests.c.resource_id.in_(ids), creating)
    assert sorted(row.resource_id for row in made) == sorted(ids)


def claims(tx: sa.Connection, expected: Expected) -> list[Ref]:
    """Assignments that the scheduler has made since, in its order."""
    known = [run.ref.assignment_id for run in expected.runs.values() if run.ref is not None]
    rows = _rows(
        tx,
        runs,
        runs.c.stack_id.in_(sorted(expected.stacks)),
        runs.c.assignment_id != "",
        runs.c.assignment_id.not_in(known),
    )
    return [Ref(row.id, row.assignment_id, row.fence, row.runner_id) for row in rows]


def created_by(tx: sa.Connection, request_id: str) -> str | None:
    """The run that this request made."""
    found = _rows(tx, requests, requests.c.request_id == request_id)
    return str(found[0].resource_id) if found else None


def _assert_is(row: sa.Row[Any], run: Run) -> None:
    assert (row.state, row.stack_id) == (run.state, run.stack_id)
    assert row.stop_requested == run.stop_asked
    assert (row.unreachable_since is not None) == run.is_unreachable
    assert (row.performed_at is not None) == bool({"PERFORMING", "APPLYING", "HELD"} & set(run.states))
    assert (row.finished_at is not None) == (not run.is_active and run.state != "QUEUED")
    if run.ref is None:
        assert (row.assignment_id, row.runner_id) == ("", "")
    else:
        assert Ref(row.id, row.assignment_id, row.fence, row.runner_id) == run.ref


def _assert_given(given: Rows, run: Run, row: sa.Row[Any]) -> None:
    """Each attempt under a token of its own; only the current one is open, and has secrets."""
    fences = [each.fence for each in given]
    assert fences == sorted(set(fences))
    for each in given:
        is_current = run.is_active and each.id == row.assignment_id
        assert (each.ended_at is None) == is_current
        if is_current:
            assert (each.accepted_at is not None) == run.is_accepted
        is_awaited = run.abandoned is not None and each.id == run.abandoned.assignment_id
        assert (each.job_sealed is not None) == (is_current or is_awaited)


def _assert_one_active(slot: sa.Row[Any], stored: Mapping[str, sa.Row[Any]], stack: Stack) -> None:
    active = [
        row
        for row in stored.values()
        if row.stack_id == slot.stack_id
        and row.state not in {"QUEUED", "FINISHED", "FAILED", "STOPPED", "DISCARDED"}
    ]
    assert [row.id for row in active] == ([stack.holder] if stack.holder else [])
    assert all(row.fence == slot.fence for row in active)


def _rows(tx: sa.Connection, table: sa.Table, *where: sa.ColumnElement[bool]) -> Rows:
    order = table.c.seq if "seq" in table.c else table.primary_key.columns[0]
    return tx.execute(sa.select(table).where(*where).order_by(order)).all()


def _by(rows: Rows, column: str) -> dict[str, list[sa.Row[Any]]]:
    found: dict[str, list[sa.Row[Any]]] = defaultdict(list)
    for row in rows:
        found[getattr(row, column)].append(row)
    return found
