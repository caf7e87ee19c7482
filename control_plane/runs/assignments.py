"""Assignments in the database: one attempt to run one run, with its sealed job while it lasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from control_plane import clock, ids
from control_plane.keys import Sealer
from control_plane.runs.errors import FencedOut
from control_plane.runs.states import RunState
from control_plane.storage.tables import assignments, runs
from interlock.v1 import runner_service_pb2 as rpc

_INSERT = sa.insert(assignments)
_ACCEPT = (
    sa.update(assignments)
    .where(assignments.c.id == sa.bindparam("assignment_id"), assignments.c.accepted_at.is_(None))
    .values(accepted_at=sa.bindparam("now"))
)
# The job goes with the assignment's end: secrets are kept no longer than a restarted runner could need them.
_END = (
    sa.update(assignments)
    .where(assignments.c.id == sa.bindparam("assignment_id"))
    .values(ended_at=sa.bindparam("now"), job_sealed=None)
)
_END_WITH_JOB = (
    sa.update(assignments)
    .where(assignments.c.id == sa.bindparam("assignment_id"))
    .values(ended_at=sa.bindparam("now"))
)
_CURRENT = sa.select(runs).where(
    runs.c.id == sa.bindparam("run_id"),
    runs.c.assignment_id == sa.bindparam("assignment_id"),
    runs.c.fence == sa.bindparam("fence"),
    runs.c.runner_id == sa.bindparam("runner_id"),
)
_HOLD_CURRENT = _CURRENT.with_for_update()
_FIND = sa.select(assignments).where(assignments.c.id == sa.bindparam("assignment_id"))


@dataclass(frozen=True, slots=True)
class Given:
    """`run` is given to a runner under this fencing token. Its output goes behind what the run has so far."""

    run: sa.Row[Any]
    fence: int
    runner_id: str
    pool_id: str
    boot_id: str
    machine_id: str
    job: rpc.Job
    assignment_id: str = field(default_factory=lambda: ids.new_id("asg"))

    @property
    def ref(self) -> rpc.AssignmentRef:
        return rpc.AssignmentRef(
            run_id=self.run.id, assignment_id=self.assignment_id, fencing_token=self.fence
        )


def insert(connection: sa.Connection, all_given: Sequence[Given], sealer: Sealer) -> None:
    """Records them with their jobs, in one statement."""
    connection.execute(
        _INSERT,
        [
            {
                "id": given.assignment_id,
                "run_id": given.run.id,
                "stack_id": given.run.stack_id,
                "runner_id": given.runner_id,
                "pool_id": given.pool_id,
                "fence": given.fence,
                "boot_id": given.boot_id,
                "output_start": given.run.output_size_bytes,
                "machine_id": given.machine_id,
                "job_sealed": sealer.seal(
                    given.job.SerializeToString(), context=f"assignment/{given.assignment_id}"
                ),
                "assigned_at": clock.now_us(),
            }
            for given in all_given
        ],
    )


def current(
    connection: sa.Connection, ref: rpc.AssignmentRef, runner_id: str, *, hold: bool = True
) -> sa.Row[Any]:
    """The run of this assignment. `hold`: nobody else can move it before this transaction ends.

    Raises:
        FencedOut: the run is not active, or the assignment, the fencing token or the runner is another.
    """
    run = connection.execute(
        _HOLD_CURRENT if hold else _CURRENT,
        {
            "run_id": ref.run_id,
            "assignment_id": ref.assignment_id,
            "fence": ref.fencing_token,
            "runner_id": runner_id,
        },
    ).one_or_none()
    if run is None or not RunState(run.state).is_active:
        raise FencedOut(ref.run_id, ref.assignment_id)
    return run


def find(connection: sa.Connection, assignment_id: str) -> sa.Row[Any] | None:
    return connection.execute(_FIND, {"assignment_id": assignment_id}).one_or_none()


def accept(connection: sa.Connection, assignment_id: str) -> bool:
    """Notes that the runner has it in its journal. False where that was noted before."""
    return connection.execute(_ACCEPT, {"assignment_id": assignment_id, "now": clock.now_us()}).rowcount == 1


def end(connection: sa.Connection, assignment_id: str, *, keeps_job: bool = False) -> None:
    """`keeps_job`: its runner may come back without it, and needs the secrets in it to mask what it will report."""
    statement = _END_WITH_JOB if keeps_job else _END
    connection.execute(statement, {"assignment_id": assignment_id, "now": clock.now_us()})


def open_job(assignment: sa.Row[Any], sealer: Sealer) -> rpc.Job:
    """The job as it was given out."""
    return open_sealed_job(assignment.job_sealed, assignment.id, sealer)


def open_sealed_job(sealed: bytes, assignment_id: str, sealer: Sealer) -> rpc.Job:
    return rpc.Job.FromString(sealer.open(sealed, context=f"assignment/{assignment_id}"))
