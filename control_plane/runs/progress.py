"""What a runner reports on the way: accepted, phases, the gate, where only the control plane can say go, and the end."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from control_plane import clock
from control_plane.runs import assignments, moves, planned
from control_plane.runs.planned import TRACKED
from control_plane.runs.states import RunState
from control_plane.storage.outputs import StoredOutput
from interlock.v1 import run_pb2
from interlock.v1 import runner_service_pb2 as rpc


def accepted(connection: sa.Connection, ref: rpc.AssignmentRef, runner_id: str) -> bool:
    """The runner has the assignment in its journal: READY becomes PREPARING. False where that was so before."""
    run = assignments.current(connection, ref, runner_id)
    first = assignments.accept(connection, ref.assignment_id)
    if RunState(run.state) is RunState.READY:
        moves.advance(connection, run, RunState.PREPARING, "a runner prepares it")
    return first


def initializing(connection: sa.Connection, ref: rpc.AssignmentRef, runner_id: str) -> bool:
    """Init has begun. False where the run is that far already."""
    run = assignments.current(connection, ref, runner_id)
    if RunState(run.state) is RunState.READY:
        accepted(connection, ref, runner_id)
        run = assignments.current(connection, ref, runner_id)
    if RunState(run.state) is not RunState.PREPARING:
        return False
    moves.advance(connection, run, RunState.INITIALIZING, "hooks and init run")
    return True


def planning(connection: sa.Connection, ref: rpc.AssignmentRef, runner_id: str) -> bool:
    """The plan has begun. False where the run is that far already, or is none that plans."""
    initializing(connection, ref, runner_id)
    run = assignments.current(connection, ref, runner_id)
    if run.type != TRACKED or RunState(run.state) is not RunState.INITIALIZING:
        return False
    moves.advance(connection, run, RunState.PLANNING, "init is done, the plan is made")
    return True


def performing(connection: sa.Connection, ref: rpc.AssignmentRef, runner_id: str) -> bool:
    """The runner had its `go` for a task before. False where the record says so, too."""
    initializing(connection, ref, runner_id)
    run = assignments.current(connection, ref, runner_id)
    if run.type == TRACKED or RunState(run.state).has_passed_gate:
        return False
    reason = "its runner says that the gate was opened before"
    moves.advance(connection, run, RunState.PERFORMING, reason, performed_at=clock.now_us())
    return True


@dataclass(frozen=True, slots=True)
class Gate:
    """The answer at the gate, and whether it is the first `go`."""

    go: bool
    reason: str
    moved: bool


def ask_gate(connection: sa.Connection, ref: rpc.AssignmentRef, runner_id: str) -> Gate:
    """Opens the gate for the current assignment of a run that nobody asked to stop; a tracked run's once it is
    confirmed.

    Asked again after a `go`, the answer is `go` again (invariant 2: the assignment is the same, so is the container).

    Raises:
        errors.FencedOut: the assignment is not current.
    """
    run = assignments.current(connection, ref, runner_id)
    if RunState(run.state).has_passed_gate:
        return Gate(go=True, reason="the gate is open", moved=False)
    if run.stop_requested:
        return Gate(go=False, reason="a stop was asked for", moved=False)
    if run.type == TRACKED and RunState(run.state) is not RunState.CONFIRMED:
        return Gate(go=False, reason="its plan is not confirmed", moved=False)
    initializing(connection, ref, runner_id)
    run = assignments.current(connection, ref, runner_id)
    after = RunState.APPLYING if run.type == TRACKED else RunState.PERFORMING
    moves.advance(connection, run, after, "init is done, the gate is open", performed_at=clock.now_us())
    return Gate(go=True, reason="the gate is open", moved=True)


# What becomes of a run whose runner reports this outcome, besides EXITED.
_ENDINGS: dict[rpc.RunOutcome.ValueType, tuple[RunState, run_pb2.RunFailure.ValueType]] = {
    rpc.RUN_OUTCOME_STOPPED: (RunState.STOPPED, run_pb2.RUN_FAILURE_UNSPECIFIED),
    rpc.RUN_OUTCOME_PREPARATION_FAILED: (RunState.FAILED, run_pb2.RUN_FAILURE_PREPARATION),
    rpc.RUN_OUTCOME_INITIALIZATION_FAILED: (RunState.FAILED, run_pb2.RUN_FAILURE_INITIALIZATION),
    rpc.RUN_OUTCOME_TIMED_OUT: (RunState.FAILED, run_pb2.RUN_FAILURE_TIMEOUT),
    rpc.RUN_OUTCOME_CONTAINER_LOST: (RunState.FAILED, run_pb2.RUN_FAILURE_CONTAINER_LOST),
    rpc.RUN_OUTCOME_PLAN_FAILED: (RunState.FAILED, run_pb2.RUN_FAILURE_PLAN),
}


def result(
    connection: sa.Connection, report: rpc.RunResult, runner_id: str, output: StoredOutput | None = None
) -> RunState:
    """Records how a run ended and frees its slot; or that its plan is made. All its output is stored already:
    `output`, or what the report speaks of where that is the whole run's.

    Raises:
        errors.FencedOut: the assignment is not current.
    """
    output = output or StoredOutput(report.output_size_bytes, report.output_sha256)
    run = assignments.current(connection, report.assignment, runner_id)
    if run.type == TRACKED and report.outcome == rpc.RUN_OUTCOME_PLANNED:
        planning(connection, report.assignment, runner_id)
        run = assignments.current(connection, report.assignment, runner_id)
        if RunState(run.state) is RunState.PLANNING:
            return planned.planned(connection, run, report, output)
    before = RunState(run.state)
    exit_code = report.exit_code if report.HasField("exit_code") else None
    after, failure, reason = _ending(before, report.outcome, exit_code, report.reason)
    if before is RunState.READY:
        accepted(connection, report.assignment, runner_id)
        run = assignments.current(connection, report.assignment, runner_id)
    moves.end(
        connection,
        run,
        after,
        reason,
        failure=failure,
        exit_code=exit_code,
        output=output,
    )
    return after


def _ending(
    before: RunState, outcome: rpc.RunOutcome.ValueType, exit_code: int | None, reason: str
) -> tuple[RunState, run_pb2.RunFailure.ValueType, str]:
    if before.has_passed_gate:
        if outcome == rpc.RUN_OUTCOME_EXITED and exit_code == 0:
            return RunState.FINISHED, run_pb2.RUN_FAILURE_UNSPECIFIED, "exit code 0, all output stored"
        if outcome == rpc.RUN_OUTCOME_EXITED:
            return (
                RunState.FAILED,
                run_pb2.RUN_FAILURE_COMMAND,
                reason or f"the command ended with exit code {exit_code}",
            )
        return RunState.FAILED, run_pb2.RUN_FAILURE_CONTAINER_LOST, reason or "the container is gone"
    if outcome == rpc.RUN_OUTCOME_EXITED or outcome not in _ENDINGS:
        return (
            RunState.FAILED,
            run_pb2.RUN_FAILURE_INITIALIZATION,
            reason or "the container ended before the gate",
        )
    after, failure = _ENDINGS[outcome]
    return after, failure, reason or after.value.lower()
