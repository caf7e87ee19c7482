"""A tracked run's plan is made: it finishes, waits to be confirmed, or is confirmed already."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from control_plane import clock
from control_plane.clock import to_timestamp
from control_plane.runs import approval, moves, plans
from control_plane.runs.states import RunState
from control_plane.storage.outputs import StoredOutput
from interlock.v1 import run_pb2
from interlock.v1 import runner_service_pb2 as rpc

TRACKED: Final = "TRACKED"


def planned(
    connection: sa.Connection, run: sa.Row[Any], report: rpc.RunResult, output: StoredOutput
) -> RunState:
    """What becomes of a run in PLANNING whose runner has made the plan; in the transaction of its result.

    Where approval policies apply, they are asked next, before anybody can confirm the plan: see `review`.
    """
    summary = run_pb2.PlanSummary()
    summary.CopyFrom(report.plan.summary)
    summary.ClearField("kept_sha256")
    summary.ClearField("kept_size_bytes")
    summary.plan_time.CopyFrom(to_timestamp(clock.now_us()))
    is_kept = plans.record(connection, report.assignment, report.plan, summary)
    columns: dict[str, Any] = {"plan": summary.SerializeToString(deterministic=True)}
    if run.stop_requested:
        return _end(connection, run, RunState.STOPPED, "stopped; nothing was applied", output)
    if not is_kept:
        reason = "what the plan left for its apply did not arrive whole; nothing was applied"
        failure = run_pb2.RUN_FAILURE_PLAN
        return _end(connection, run, RunState.FAILED, reason, output, failure=failure)
    if not summary.has_changes:
        reason = "the plan has no changes, all output stored"
        return _end(connection, run, RunState.FINISHED, reason, output, exit_code=0, **columns)
    after, reason = RunState.UNCONFIRMED, f"{said(summary)}; it waits to be confirmed or discarded"
    needs_approval = approval.begin(connection, run)
    if run.auto_confirm and not needs_approval:
        after, reason = RunState.CONFIRMED, f"{said(summary)}; confirmed, as the run was started to be"
        confirmation = run_pb2.Confirmation(confirm_time=summary.plan_time)
        columns["confirmation"] = confirmation.SerializeToString(deterministic=True)
    moves.put_down(connection, run, after, reason, output=output, **columns)
    return after


def said(summary: run_pb2.PlanSummary) -> str:
    """One clause for people."""
    if not summary.is_counted:
        return "the plan has changes"
    counts = f"{summary.add} to add, {summary.change} to change, {summary.destroy} to destroy"
    imported = f", {summary.imported} to import" if summary.imported else ""
    return f"the plan: {counts}{imported}"


def _end(
    connection: sa.Connection,
    run: sa.Row[Any],
    after: RunState,
    reason: str,
    output: StoredOutput,
    *,
    failure: run_pb2.RunFailure.ValueType = run_pb2.RUN_FAILURE_UNSPECIFIED,
    **columns: Any,
) -> RunState:
    moves.end(connection, run, after, reason, failure=failure, output=output, **columns)
    return after
