"""Stopping and discarding: everything before the gate, nothing behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from control_plane import clock
from control_plane.audit import events
from control_plane.identity.principal import Principal
from control_plane.runs import moves, store
from control_plane.runs.errors import WrongState
from control_plane.runs.states import WAITING, RunState
from interlock.v1 import runner_service_pb2 as rpc


@dataclass(frozen=True, slots=True)
class Stop:
    """What a stop came to; `ask_runner` is set where its runner must be told."""

    run_id: str
    stack_id: str
    runner_id: str
    ask_runner: rpc.AssignmentRef | None


def stop(connection: sa.Connection, run: sa.Row[Any], by: Principal) -> Stop:
    """Discards a run that waits, asks for the stop of one before its gate.

    Raises:
        WrongState: it performs, or is over.
    """
    state = RunState(run.state)
    if state in WAITING:
        moves.end(connection, run, RunState.DISCARDED, f"discarded by {by.login}", by=by)
        return Stop(run.id, run.stack_id, "", None)
    if state.has_passed_gate:
        raise WrongState(
            run.id,
            f"{run.id} is performing since {_time(run.performed_at)}; what performs cannot be stopped, because a command "
            "cut off in the middle may leave the infrastructure half changed",
        )
    if state.is_final:
        raise WrongState(run.id, f"{run.id} is over: it is {state}")
    if not run.stop_requested:
        store.update(connection, run.id, stop_requested=True, updated_at=clock.now_us())
        events.record(connection, by, "run.stop_requested", "run", run.id, stack_id=run.stack_id)
    ref = rpc.AssignmentRef(run_id=run.id, assignment_id=run.assignment_id, fencing_token=run.fence)
    return Stop(run.id, run.stack_id, run.runner_id, ref)


def discard(connection: sa.Connection, run: sa.Row[Any], by: Principal) -> Stop:
    """Takes a run out of the queue. Doing it again is harmless.

    Raises:
        WrongState: it is not queued.
    """
    state = RunState(run.state)
    if state is RunState.DISCARDED:
        return Stop(run.id, run.stack_id, "", None)
    if state not in WAITING:
        raise WrongState(
            run.id, f"{run.id} is not queued: it is {state}; before it performs it can be stopped"
        )
    return stop(connection, run, by)


def _time(time_us: int) -> str:
    return clock.to_timestamp(time_us).ToJsonString()


def find(connection: sa.Connection, run_id: str) -> sa.Row[Any]:
    """The run, to be stopped or discarded in this transaction."""
    run = store.find_to_move(connection, run_id)
    if run is None:
        raise WrongState(run_id, f"{run_id} is gone")
    return run
