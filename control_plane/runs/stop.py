"""Stopping and discarding: everything before the gate, nothing behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from control_plane import clock
from control_plane.audit import events
from control_plane.identity.principal import Principal
from control_plane.pools.connections import Connections
from control_plane.runs import moves, store
from control_plane.runs.errors import WrongState
from control_plane.runs.holds import HOLD
from control_plane.runs.states import WAITING, RunState
from control_plane.storage import requests
from control_plane.storage.outputs import StoredOutput
from interlock.v1 import run_service_pb2 as rpc_calls
from interlock.v1 import runner_service_pb2 as rpc

_METHOD = "DiscardRun"


@dataclass(frozen=True, slots=True)
class Stop:
    """What a stop came to; `ask_runner` is set where its runner must be told."""

    run_id: str
    stack_id: str
    runner_id: str
    ask_runner: rpc.AssignmentRef | None


def stop(connection: sa.Connection, run: sa.Row[Any], by: Principal) -> Stop:
    """Discards a run that waits, in the queue or to be confirmed; asks for the stop of one before its gate.

    Raises:
        WrongState: it performs, or is over.
    """
    state = RunState(run.state)
    if state in WAITING or state is RunState.UNCONFIRMED:
        return _end(connection, run, by, RunState.DISCARDED, f"discarded by {by.login}")
    if state is RunState.CONFIRMED and not run.assignment_id:
        return _end(connection, run, by, RunState.STOPPED, f"stopped by {by.login}; nothing was applied")
    if run.type == HOLD and state.is_active:
        raise WrongState(
            run.id,
            f"{run.id} is {run.creator_login}'s hold on the slot, and nothing that Interlock could stop: they let go of "
            "it, or an admin does with a reason (ReleaseSlot)",
        )
    if state.has_passed_gate:
        raise WrongState(
            run.id,
            f"{run.id} is {state.value.lower()} since {_time(run.performed_at)}; it cannot be stopped any more, because "
            "what is cut off in the middle may leave the infrastructure half changed",
        )
    if state.is_final:
        raise WrongState(run.id, f"{run.id} is over: it is {state}")
    if not run.stop_requested:
        store.update(connection, run.id, stop_requested=True, updated_at=clock.now_us())
        events.record(connection, by, "run.stop_requested", "run", run.id, stack_id=run.stack_id)
    ref = rpc.AssignmentRef(run_id=run.id, assignment_id=run.assignment_id, fencing_token=run.fence)
    return Stop(run.id, run.stack_id, run.runner_id, ref)


def discard(connection: sa.Connection, by: Principal, request: rpc_calls.DiscardRunRequest) -> Stop:
    """Takes a run out of the queue, or discards its plan and frees the slot. Doing it again is harmless.

    Raises:
        WrongState: it is neither queued nor UNCONFIRMED.
    """
    run = find(connection, request.run_id)
    known = requests.find(connection, by.id, _METHOD, request.request_id, request)
    state = RunState(run.state)
    if known is not None or state is RunState.DISCARDED:
        return Stop(run.id, run.stack_id, "", None)
    if state not in WAITING and state is not RunState.UNCONFIRMED:
        raise WrongState(
            run.id,
            f"{run.id} is neither queued nor waits for its confirmation: it is {state}; "
            "before it performs or applies it can be stopped",
        )
    requests.remember(connection, by.id, _METHOD, request.request_id, request, run.id)
    note = f": {request.note}" if request.note else ""
    return _end(connection, run, by, RunState.DISCARDED, f"discarded by {by.login}{note}")


def _end(connection: sa.Connection, run: sa.Row[Any], by: Principal, after: RunState, reason: str) -> Stop:
    """Of a run that no runner has."""
    # Before its first assignment a run has no output, and no hash of it.
    output = StoredOutput(run.output_size_bytes, run.output_sha256 or moves.NO_OUTPUT.sha256)
    moves.end(connection, run, after, reason, by=by, output=output)
    return Stop(run.id, run.stack_id, "", None)


def ask_runner(connections: Connections, run_id: str) -> bool:
    """Tells the runner of this run to stop it, where that is connected here. Doing it again is harmless."""
    for connection in connections.all():
        for assignment_id, held in connection.active.items():
            if held.run_id == run_id:
                ref = rpc.AssignmentRef(run_id=run_id, assignment_id=assignment_id, fencing_token=held.fence)
                asked = rpc.StopRequest(assignment=ref, reason="a caller asked for it")
                connection.send(rpc.ConnectResponse(stop=asked))
                return True
    return False


def _time(time_us: int) -> str:
    return clock.to_timestamp(time_us).ToJsonString()


def find(connection: sa.Connection, run_id: str) -> sa.Row[Any]:
    """The run, to be stopped or discarded in this transaction."""
    run = store.find_to_move(connection, run_id)
    if run is None:
        raise WrongState(run_id, f"{run_id} is gone")
    return run
