"""Moving a run through its states, with the audit event of each step; and its end, which frees the slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from control_plane import clock
from control_plane.audit import events
from control_plane.identity.principal import SYSTEM, Principal
from control_plane.queue import lanes
from control_plane.runs import assignments, store
from control_plane.runs.states import RunState
from control_plane.storage.outputs import StoredOutput
from interlock.v1 import run_pb2

NO_OUTPUT: Final = StoredOutput()


class SlotLost(AssertionError):
    """A run that should hold its slot does not: a fault in Interlock. The transaction is rolled back."""


def advance(
    connection: sa.Connection,
    run: sa.Row[Any],
    after: RunState,
    reason: str,
    *,
    by: Principal = SYSTEM,
    **columns: object,
) -> None:
    """Brings `run`, read with `find_to_move` or `assignments.current`, into the next state; writes the audit event.

    Raises:
        states.IllegalTransition: the table of states does not allow it.
        SlotLost: the row is no longer as it was read.
    """
    if not store.move(connection, run, after, reason, **columns):
        raise SlotLost(f"{run.id} was moved from {run.state} meanwhile")
    _record(connection, by, [(run, columns)], after, reason)


def advance_all(
    connection: sa.Connection,
    moved: Sequence[tuple[sa.Row[Any], Mapping[str, object]]],
    after: RunState,
    reason: str,
    *,
    by: Principal = SYSTEM,
) -> None:
    """As `advance`, for several runs, each with the values of the same columns: in as many statements as for one."""
    if not store.move_all(connection, moved, after, reason):
        raise SlotLost(f"one of {', '.join(run.id for run, _ in moved)} was moved meanwhile")
    _record(connection, by, moved, after, reason)


def end(
    connection: sa.Connection,
    run: sa.Row[Any],
    after: RunState,
    reason: str,
    *,
    by: Principal = SYSTEM,
    failure: run_pb2.RunFailure.ValueType = run_pb2.RUN_FAILURE_UNSPECIFIED,
    output: StoredOutput = NO_OUTPUT,
    keeps_job: bool = False,
    **columns: object,
) -> None:
    """Brings a run into a final state and, in the same transaction, frees what it held: slot or place in the queue.

    `keeps_job`: as `assignments.end`.
    """
    before = RunState(run.state)
    advance(
        connection,
        run,
        after,
        reason,
        by=by,
        failure=failure,
        finished_at=clock.now_us(),
        unreachable_since=None,
        output_size_bytes=output.size_bytes,
        output_sha256=output.sha256,
        **columns,
    )
    if before.is_active:
        if not store.free_slot(connection, run):
            raise SlotLost(
                f"{run.id} does not hold the slot of {run.stack_id} under fencing token {run.fence}"
            )
        assignments.end(connection, run.assignment_id, keeps_job=keeps_job)
    elif before is RunState.QUEUED:
        store.leave_queue(connection, run)


def put_down(
    connection: sa.Connection,
    run: sa.Row[Any],
    after: RunState,
    reason: str,
    *,
    output: StoredOutput,
    **columns: Any,
) -> None:
    """A plan is made: the run keeps its slot, and its runner is free."""
    advance(
        connection,
        run,
        after,
        reason,
        runner_id="",
        assignment_id="",
        unreachable_since=None,
        output_size_bytes=output.size_bytes,
        output_sha256=output.sha256,
        **columns,
    )
    assignments.end(connection, run.assignment_id)


def take_back(connection: sa.Connection, run: sa.Row[Any], why: str, output: StoredOutput) -> None:
    """Takes a CONFIRMED run from a runner that had not come to its gate: another is to apply the plan.

    `output` is what there is of the run's output now, that of this attempt included.
    """
    columns: dict[str, object] = {"runner_id": "", "assignment_id": "", "unreachable_since": None}
    if output.size_bytes > run.output_size_bytes:
        columns |= {"output_size_bytes": output.size_bytes, "output_sha256": output.sha256}
    store.update(connection, run.id, updated_at=clock.now_us(), **columns)
    assignments.end(connection, run.assignment_id)
    events.record(
        connection, SYSTEM, "run.apply_taken_back", "run", run.id, stack_id=run.stack_id,
        details={"reason": why, "runner_id": run.runner_id, "fence": run.fence},
    )  # fmt: skip


def give_back(connection: sa.Connection, run: sa.Row[Any], reason: str) -> None:
    """Puts a READY run that nobody accepted back into the queue and frees the slot."""
    advance(connection, run, RunState.QUEUED, reason, runner_id="", assignment_id="", unreachable_since=None)
    if not store.free_slot(connection, run):
        raise SlotLost(f"{run.id} does not hold the slot of {run.stack_id} under fencing token {run.fence}")
    store.join_queue(connection, run)
    lanes.first_again(connection, run.stack_id, run.creator_id)
    assignments.end(connection, run.assignment_id)


def _record(
    connection: sa.Connection,
    by: Principal,
    moved: Sequence[tuple[sa.Row[Any], Mapping[str, object]]],
    after: RunState,
    reason: str,
) -> None:
    said = ("exit_code", "runner_id", "fence")
    recorded = []
    for run, columns in moved:
        details: dict[str, object] = {"from": run.state, "reason": reason}
        details |= {name: columns[name] for name in said if columns.get(name) is not None}
        recorded.append(events.Event(f"run.{after.value.lower()}", "run", run.id, run.stack_id, details))
    events.record_all(connection, by, recorded)
