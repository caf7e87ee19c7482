"""What runners and callers say, as the real thing takes it and as the model does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa

from control_plane.runs import abandon, assignments, confirm, moves, plans, progress, reach
from control_plane.runs import stop as stopping
from control_plane.storage.outputs import StoredOutput
from interlock.v1 import run_service_pb2 as calls
from interlock.v1 import runner_service_pb2 as rpc
from tests.integration.runs.conftest import ADA
from tests.integration.runs.model.expected import Expected, Ref
from tests.integration.runs.model.machine import Container
from tests.integration.runs.model.process import message_of

LEFT_SHA256: Final = hashlib.sha256(b"what apply needs").hexdigest()
_UNITS: Final[dict[str, Callable[[sa.Connection, rpc.AssignmentRef, str], Any]]] = {
    "accepted": progress.accepted,
    "initializing": progress.initializing,
    "planning": progress.planning,
    "gate": progress.ask_gate,
    "declined": reach.decline,
}
ALL: Final = sorted(_UNITS)


def unit(what: str, ref: Ref) -> Callable[[sa.Connection], Any]:
    """The transaction of this report; `Expected` has a method of the same name."""
    return lambda tx: _UNITS[what](tx, message_of(ref), ref.runner_id)


def end_of(container: Container, *, is_good: bool) -> rpc.RunResult:
    """`is_good`: the command succeeded; for a plan, that there is something to change."""
    report = rpc.RunResult(assignment=message_of(container.ref), output_size_bytes=3, output_sha256="abc")
    if container.is_stopped:
        report.outcome = rpc.RUN_OUTCOME_STOPPED
    elif container.is_lost:
        report.outcome = rpc.RUN_OUTCOME_CONTAINER_LOST
    elif container.plans:
        report.outcome = rpc.RUN_OUTCOME_PLANNED
        report.plan.summary.has_changes = is_good
        report.plan.kept_sha256 = LEFT_SHA256 if is_good else ""
    else:
        report.outcome, report.exit_code = rpc.RUN_OUTCOME_EXITED, 0 if is_good else 1
    return report


def result(tx: sa.Connection, report: rpc.RunResult, runner_id: str, output: StoredOutput) -> None:
    """With what a plan leaves for its apply, which has come before."""
    if report.plan.kept_sha256:
        run = assignments.current(tx, report.assignment, runner_id)
        plans.keep(tx, run.id, run.assignment_id, plans.Kept(LEFT_SHA256, 16, LEFT_SHA256))
    progress.result(tx, report, runner_id, output)


def expect_end(model: Expected, ref: Ref, report: rpc.RunResult) -> None:
    match report.outcome:
        case rpc.RUN_OUTCOME_STOPPED:
            model.stopped(ref)
        case rpc.RUN_OUTCOME_PLANNED:
            model.planned(ref, has_changes=report.plan.summary.has_changes)
        case _:
            model.ended(ref, is_success=report.outcome == rpc.RUN_OUTCOME_EXITED and not report.exit_code)


def call(what: str, run_id: str) -> tuple[Callable[[sa.Connection], Any], Callable[[Expected], object]]:
    """The transaction of a caller who may do everything, and what is expected of it."""
    match what:
        case "stop":
            return lambda tx: stopping.stop(tx, stopping.find(tx, run_id), ADA), lambda model: model.stop(
                run_id
            )
        case "discard":
            request = calls.DiscardRunRequest(run_id=run_id)
            return lambda tx: stopping.discard(tx, ADA, request), lambda model: model.discard(run_id)
        case "confirm":
            confirmed = calls.ConfirmRunRequest(run_id=run_id)
            return lambda tx: confirm.confirm(tx, ADA, confirmed), lambda model: model.confirm(run_id)
    by_force = what == "abandon by force"
    abandoned = calls.AbandonRunRequest(run_id=run_id, reason="it is gone", force=by_force)
    return (
        lambda tx: abandon._abandon(tx, abandoned, ADA, moves.NO_OUTPUT),
        lambda model: model.abandon(run_id, by_force=by_force),
    )
