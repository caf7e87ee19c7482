"""A runner says hello: what it still holds is compared with what the record says it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from control_plane.keys import Sealer
from control_plane.runs import assignments, late, moves, progress, reach, store
from control_plane.runs.errors import FencedOut
from control_plane.runs.states import RunState
from control_plane.storage.outputs import StoredOutput
from interlock.v1 import run_pb2
from interlock.v1 import runner_service_pb2 as rpc


@dataclass(frozen=True, slots=True)
class Kept:
    """An assignment that goes on. Offset and digest of the stored output are filled in by the caller."""

    ref: rpc.AssignmentRef
    stack_id: str
    verdict: rpc.HeldVerdict
    stop_requested: bool
    output_start: int


@dataclass(slots=True)
class Reconciled:
    kept: list[Kept] = field(default_factory=list)
    released: list[rpc.HeldVerdict] = field(default_factory=list)
    # Runs whose record was changed: (run_id, stack_id).
    touched: list[tuple[str, str]] = field(default_factory=list)


def missing(connection: sa.Connection, hello: rpc.Hello) -> list[str]:
    """Ids of the runs that the record says the runner holds, and that it does not speak of."""
    held_ids = {held.assignment.assignment_id for held in hello.held}
    active = store.active_of_runner(connection, hello.runner_id)
    return [run.id for run in active if run.assignment_id not in held_ids]


def reconcile(
    connection: sa.Connection, hello: rpc.Hello, sealer: Sealer, stored: Mapping[str, StoredOutput]
) -> Reconciled:
    """Decides for each held assignment whether it goes on, and for each recorded one that is not held, what it means.

    `stored` is the output of the `missing` runs.
    """
    outcome = Reconciled()
    held_ids = set()
    for held in hello.held:
        try:
            run = assignments.current(connection, held.assignment, hello.runner_id)
        except FencedOut as error:
            if (kept := _keep_late(connection, held, hello.runner_id, sealer)) is not None:
                outcome.kept.append(kept)
                outcome.touched.append((kept.ref.run_id, kept.stack_id))
                continue
            verdict = rpc.HeldVerdict(
                assignment=held.assignment, action=rpc.HELD_ACTION_RELEASE, reason=error.message
            )
            outcome.released.append(verdict)
            continue
        held_ids.add(held.assignment.assignment_id)
        outcome.kept.append(_keep(connection, run, held, sealer))
        store.update(connection, run.id, unreachable_since=None)
        outcome.touched.append((run.id, run.stack_id))
    for run in store.active_of_runner(connection, hello.runner_id, hold=True):
        output = stored.get(run.id, moves.NO_OUTPUT)
        if run.assignment_id not in held_ids and _miss(connection, run, hello, output):
            outcome.touched.append((run.id, run.stack_id))
    return outcome


def _keep(connection: sa.Connection, run: sa.Row[Any], held: rpc.HeldAssignment, sealer: Sealer) -> Kept:
    assignment = assignments.find(connection, run.assignment_id)
    if assignment is None:
        raise FencedOut(run.id, run.assignment_id)
    progress.accepted(connection, held.assignment, run.runner_id)
    if held.phase == run_pb2.RUN_STATE_PERFORMING:
        # A record that came from a backup does not know it; without this, its lease could end what performs.
        progress.performing(connection, held.assignment, run.runner_id)
    run = assignments.current(connection, held.assignment, run.runner_id)
    verdict = rpc.HeldVerdict(
        assignment=held.assignment,
        action=rpc.HELD_ACTION_CONTINUE,
        gate_open=RunState(run.state).has_passed_gate,
        job=assignments.open_job(assignment, sealer),
    )
    return Kept(held.assignment, run.stack_id, verdict, run.stop_requested, assignment.output_start)


def _keep_late(
    connection: sa.Connection, held: rpc.HeldAssignment, runner_id: str, sealer: Sealer
) -> Kept | None:
    """Of an abandoned run. A command that performs is not cut off; one that does not will never begin."""
    try:
        run = late.returned(connection, held.assignment, runner_id)
    except FencedOut:
        return None
    assignment = assignments.find(connection, run.assignment_id)
    if assignment is None or assignment.job_sealed is None:
        return None
    verdict = rpc.HeldVerdict(
        assignment=held.assignment,
        action=rpc.HELD_ACTION_CONTINUE,
        reason=run.state_reason,
        job=assignments.open_job(assignment, sealer),
    )
    return Kept(
        held.assignment, run.stack_id, verdict, stop_requested=True, output_start=assignment.output_start
    )


def _miss(connection: sa.Connection, run: sa.Row[Any], hello: rpc.Hello, output: StoredOutput) -> bool:
    """The runner is here and does not know the run any more. True where its record changed."""
    if not RunState(run.state).has_passed_gate:
        reach.give_up(connection, run, "its runner came back without it", output)
        return True
    assignment = assignments.find(connection, run.assignment_id)
    if assignment is None or not _has_rebooted(assignment, hello):
        # The container may still be there: only proof ends it (invariant 3).
        return False
    moves.end(
        connection,
        run,
        RunState.FAILED,
        f"the runner's machine was started again while the run was {run.state}; its container is gone",
        failure=run_pb2.RUN_FAILURE_CONTAINER_LOST,
        output=output,
    )
    return True


def _has_rebooted(assignment: sa.Row[Any], hello: rpc.Hello) -> bool:
    """Whether the very machine of this assignment was started again since: no container outlives that."""
    is_same_machine = bool(hello.machine_id) and hello.machine_id == assignment.machine_id
    return is_same_machine and bool(hello.boot_id) and hello.boot_id != assignment.boot_id
