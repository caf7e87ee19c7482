"""The second half of a claim: runs whose slots one transaction has taken are given to runners. What is written and read
for all of them is written and read once, so that a claim costs few statements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import structlog

from control_plane import clock, errors
from control_plane.keys import MasterKeyError, Sealer
from control_plane.queue import lanes
from control_plane.runs import assignments, moves, store
from control_plane.runs.jobs import JobBuilder, Parts
from control_plane.runs.states import RunState
from control_plane.storage.outputs import StoredOutput
from interlock.v1 import run_pb2
from interlock.v1 import runner_service_pb2 as rpc

_WHY = "its turn on the stack has come"

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Room:
    """A runner that can take `free` more runs, as the loop saw it before the transaction."""

    runner_id: str
    pool_id: str
    boot_id: str
    machine_id: str
    free: int


@dataclass(frozen=True, slots=True)
class Granted:
    """`run`, as it was read and held in this transaction, QUEUED or CONFIRMED, has its slot under this fencing token."""

    run: sa.Row[Any]
    fence: int
    room: Room

    @property
    def is_confirmed(self) -> bool:
        return RunState(self.run.state) is RunState.CONFIRMED

    @property
    def columns(self) -> dict[str, object]:
        return {"fence": self.fence, "runner_id": self.room.runner_id, "pool_id": self.room.pool_id}


@dataclass(frozen=True, slots=True)
class Claim:
    run_id: str
    stack_id: str
    runner_id: str
    output_start: int
    # None where the job could not be made: the run has failed.
    assignment: rpc.Assignment | None


class HandingOut:
    """Makes the jobs, and records who was given what."""

    def __init__(self, jobs: JobBuilder, sealer: Sealer) -> None:
        self._jobs = jobs
        self._sealer = sealer

    def hand_out(self, connection: sa.Connection, granted: Sequence[Granted]) -> list[Claim]:
        """In the order of `granted`. The lanes of their stacks are told that the slots are taken."""
        if not granted:
            return []
        now_us = clock.now_us()
        queued = [grant.run for grant in granted if not grant.is_confirmed]
        if queued:
            lanes.taken(connection, {run.stack_id: run.id for run in queued}, now_us)
        parts = self._jobs.gather(
            connection, [run.stack_id for run in queued], {grant.room.pool_id for grant in granted}
        )
        made = [(grant, self._given(connection, grant, parts)) for grant in granted]
        given = [(grant, it) for grant, it in made if it is not None]
        self._record(connection, given, now_us)
        return [_claim(grant, it) for grant, it in made]

    def _given(self, connection: sa.Connection, grant: Granted, parts: Parts) -> assignments.Given | None:
        """None where its job could not be made."""
        run, room = grant.run, grant.room
        try:
            job = self._jobs.build(connection, run, room.pool_id, parts)
        except (MasterKeyError, errors.DomainError) as error:
            log.error("run.job_failed", run_id=run.id, error=str(error))
            _fail(connection, grant, f"its job could not be made: {error}")
            return None
        return assignments.Given(
            run, grant.fence, room.runner_id, room.pool_id, room.boot_id, room.machine_id, job
        )

    def _record(
        self, connection: sa.Connection, given: Sequence[tuple[Granted, assignments.Given]], now_us: int
    ) -> None:
        if not given:
            return
        started = []
        for grant, it in given:
            columns = {**grant.columns, "assignment_id": it.assignment_id}
            if grant.is_confirmed:
                store.update(connection, grant.run.id, **columns)
            else:
                started.append((grant.run, {**columns, "slot_taken_at": now_us}))
        moves.advance_all(connection, started, RunState.READY, _WHY)
        assignments.insert(connection, [it for _, it in given], self._sealer)


def _fail(connection: sa.Connection, grant: Granted, reason: str) -> None:
    """The run has had its slot, and lets go of it."""
    run = grant.run
    if grant.is_confirmed:
        store.update(connection, run.id, **grant.columns)
    else:
        columns = {**grant.columns, "slot_taken_at": clock.now_us()}
        moves.advance_all(connection, [(run, columns)], RunState.READY, _WHY)
    held = store.find(connection, run.id)
    if held is None:
        raise moves.SlotLost(f"{run.id} was given its slot and has no row")
    moves.end(
        connection,
        held,
        RunState.FAILED,
        reason,
        failure=run_pb2.RUN_FAILURE_PREPARATION,
        output=StoredOutput(run.output_size_bytes, run.output_sha256 or moves.NO_OUTPUT.sha256),
    )


def _claim(grant: Granted, given: assignments.Given | None) -> Claim:
    run = grant.run
    assignment = None if given is None else rpc.Assignment(assignment=given.ref, job=given.job)
    return Claim(run.id, run.stack_id, grant.room.runner_id, run.output_size_bytes, assignment)
