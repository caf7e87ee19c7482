"""Plans of tracked runs in the database: their changes, and what is kept for their apply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from control_plane.runs.states import RunState
from control_plane.storage.tables import assignments, plans, runs
from interlock.v1 import run_pb2
from interlock.v1 import runner_service_pb2 as rpc

_OVER = [state.value for state in sorted(RunState) if state.is_final]

_FIND = sa.select(plans).where(plans.c.run_id == sa.bindparam("run_id"))
_INSERT = sa.insert(plans)
_UPDATE = sa.update(plans).where(plans.c.run_id == sa.bindparam("of_run"))
_JOB = sa.select(assignments.c.job_sealed).where(assignments.c.id == sa.bindparam("assignment_id"))
# Kept for runs that are over: nobody will apply it any more.
_LEFT = (
    sa.select(plans.c.run_id, plans.c.sealed_sha256)
    .join(runs, runs.c.id == plans.c.run_id)
    .where(plans.c.sealed_sha256 != sa.literal_column("''"), runs.c.state.in_(_OVER))
)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a plan left: digest and length of what the runner sent, and the archive that it is sealed in."""

    sha256: str
    size_bytes: int
    sealed_sha256: str


def find(connection: sa.Connection, run_id: str) -> sa.Row[Any] | None:
    return connection.execute(_FIND, {"run_id": run_id}).one_or_none()


def changes(connection: sa.Connection, run_id: str) -> Sequence[run_pb2.ResourceChange]:
    """What the plan changes; nothing before there is one."""
    row = find(connection, run_id)
    return run_pb2.Plan.FromString(row.changes).changes if row is not None and row.changes else ()


def keep(connection: sa.Connection, run_id: str, assignment_id: str, kept: Kept) -> str:
    """Notes what the assignment left. Returns the archive whose place it takes, "" for none."""
    before = find(connection, run_id)
    values = {
        "assignment_id": assignment_id,
        "kept_sha256": kept.sha256,
        "kept_size_bytes": kept.size_bytes,
        "sealed_sha256": kept.sealed_sha256,
    }
    _put(connection, run_id, before, values)
    return "" if before is None else str(before.sealed_sha256)


def record(
    connection: sa.Connection, ref: rpc.AssignmentRef, report: rpc.PlanReport, summary: run_pb2.PlanSummary
) -> bool:
    """Stores the changes, and the job that planned, for its apply. Fills in what of the summary is known here.

    False where there are changes, and this assignment has not sent what apply needs.
    """
    before = find(connection, ref.run_id)
    values: dict[str, Any] = {"assignment_id": ref.assignment_id}
    if report.summary.has_changes:
        is_kept = before is not None and before.assignment_id == ref.assignment_id
        if (
            before is None
            or not is_kept
            or not report.kept_sha256
            or before.kept_sha256 != report.kept_sha256
        ):
            return False
        summary.kept_sha256, summary.kept_size_bytes = before.kept_sha256, before.kept_size_bytes
        values["job_sealed"] = connection.execute(_JOB, {"assignment_id": ref.assignment_id}).scalar_one()
    plan = run_pb2.Plan(changes=report.changes, is_cut_off=report.is_cut_off)
    values["changes"] = plan.SerializeToString(deterministic=True)
    _put(connection, ref.run_id, before, values)
    return True


def left(connection: sa.Connection) -> Sequence[sa.Row[Any, Any]]:
    """(run_id, sealed_sha256) of what is kept and nobody needs any more."""
    return connection.execute(_LEFT).all()


def forget(connection: sa.Connection, run_id: str) -> None:
    """What was kept is gone; the changes stay on record."""
    connection.execute(_UPDATE.values(sealed_sha256="", job_sealed=None), {"of_run": run_id})


def _put(connection: sa.Connection, run_id: str, before: sa.Row[Any] | None, values: dict[str, Any]) -> None:
    if before is None:
        connection.execute(_INSERT, {"run_id": run_id, **values})
    else:
        connection.execute(_UPDATE.values(**values), {"of_run": run_id})
