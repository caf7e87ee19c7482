"""Late evidence: what the runner of an abandoned run still reports. Kept beside the run; it changes nothing of it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from control_plane import clock
from control_plane.audit import events
from control_plane.clock import to_timestamp
from control_plane.identity.principal import SYSTEM
from control_plane.runs import assignments
from control_plane.runs.errors import FencedOut
from control_plane.storage.outputs import StoredOutput
from control_plane.storage.tables import late_evidence, runs
from interlock.v1 import run_pb2
from interlock.v1 import runner_service_pb2 as rpc

_FIND = sa.select(late_evidence).where(late_evidence.c.run_id == sa.bindparam("run_id"))
# The right to add evidence: exactly the reference that the run had when it was abandoned.
_ABANDONED = (
    sa.select(runs)
    .where(
        runs.c.id == sa.bindparam("run_id"),
        runs.c.assignment_id == sa.bindparam("assignment_id"),
        runs.c.fence == sa.bindparam("fence"),
        runs.c.runner_id == sa.bindparam("runner_id"),
        runs.c.failure == int(run_pb2.RUN_FAILURE_ABANDONED),
    )
    .with_for_update()
)
_INSERT = sa.insert(late_evidence)
_REPORT = sa.update(late_evidence).where(late_evidence.c.run_id == sa.bindparam("of_run"))


def find(connection: sa.Connection, run_id: str) -> sa.Row[Any] | None:
    return connection.execute(_FIND, {"run_id": run_id}).one_or_none()


def returned(connection: sa.Connection, ref: rpc.AssignmentRef, runner_id: str) -> sa.Row[Any]:
    """The abandoned run of this assignment, whose runner is here with it; that is noted.

    Raises:
        errors.FencedOut: the run was not abandoned under this assignment, or its runner has reported its end.
    """
    run = connection.execute(
        _ABANDONED,
        {
            "run_id": ref.run_id,
            "assignment_id": ref.assignment_id,
            "fence": ref.fencing_token,
            "runner_id": runner_id,
        },
    ).one_or_none()
    if run is None:
        raise FencedOut(ref.run_id, ref.assignment_id)
    evidence = find(connection, run.id)
    if evidence is None:
        note_return(connection, run.id)
    elif evidence.reported_at is not None:
        raise FencedOut(ref.run_id, ref.assignment_id)
    return run


def note_return(connection: sa.Connection, run_id: str) -> None:
    """The runner of an abandoned run is in reach, and has the run."""
    connection.execute(_INSERT, {"run_id": run_id, "returned_at": clock.now_us()})


def result(connection: sa.Connection, report: rpc.RunResult, runner_id: str, stored: StoredOutput) -> None:
    """Keeps how an abandoned run ended on its runner. `stored`: all its output, with what it had before.

    Raises:
        errors.FencedOut: as `returned`.
    """
    run = returned(connection, report.assignment, runner_id)
    exit_code = report.exit_code if report.HasField("exit_code") else None
    outcome = rpc.RunOutcome.Name(report.outcome).removeprefix("RUN_OUTCOME_").lower().replace("_", " ")
    connection.execute(
        _REPORT.values(
            reported_at=clock.now_us(),
            exit_code=exit_code,
            reason=report.reason or outcome,
            whole_output_size_bytes=stored.size_bytes,
            whole_output_sha256=stored.sha256,
        ),
        {"of_run": run.id},
    )
    # The secrets of the job have served their time now.
    assignments.end(connection, run.assignment_id)
    events.record(
        connection,
        SYSTEM,
        "run.late_result",
        "run",
        run.id,
        stack_id=run.stack_id,
        details={"exit_code": exit_code, "outcome": outcome, "runner_id": runner_id},
    )


def to_message(
    evidence: sa.Row[Any], run: sa.Row[Any], stored_size_bytes: int | None
) -> run_pb2.LateEvidence:
    """`stored_size_bytes`: how much of the whole output is durable; None once the runner has reported the end."""
    whole = evidence.whole_output_size_bytes if stored_size_bytes is None else stored_size_bytes
    message = run_pb2.LateEvidence(
        return_time=to_timestamp(evidence.returned_at),
        exit_code=evidence.exit_code,
        reason=evidence.reason,
        output_size_bytes=max(0, whole - run.output_size_bytes),
        whole_output_sha256=evidence.whole_output_sha256,
    )
    if evidence.reported_at is not None:
        message.report_time.CopyFrom(to_timestamp(evidence.reported_at))
    return message
