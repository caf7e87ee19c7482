"""Confirming a plan: whoever may write to the stack, once, while it waits for that."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from control_plane import clock
from control_plane.clock import to_timestamp
from control_plane.identity.principal import Principal
from control_plane.runs import approval, moves, stop
from control_plane.runs.errors import WrongState
from control_plane.runs.states import RunState
from control_plane.stacks import snapshot
from control_plane.stacks.locks import require_not_locked_against
from control_plane.storage import requests
from interlock.v1 import run_pb2
from interlock.v1 import run_service_pb2 as rpc

_METHOD: Final = "ConfirmRun"


def confirm(connection: sa.Connection, by: Principal, request: rpc.ConfirmRunRequest) -> str:
    """UNCONFIRMED becomes CONFIRMED: its plan, and no other, is given to the next runner with room. Returns the id of
    its stack. The same request_id again changes nothing.

    Raises:
        WrongState: it is not UNCONFIRMED, or approval policies have not approved it as it is.
        StackLocked: somebody else holds the stack's lock.
    """
    run = stop.find(connection, request.run_id)
    if requests.find(connection, by.id, _METHOD, request.request_id, request) is not None:
        return str(run.stack_id)
    state = RunState(run.state)
    if state is not RunState.UNCONFIRMED:
        raise WrongState(run.id, f"{run.id} has no plan that waits to be confirmed: it is {state}")
    require_not_locked_against(by, snapshot.load(connection, run.stack_id))
    approval.require(connection, run)
    confirmation = run_pb2.Confirmation(
        caller=by.to_caller(), confirm_time=to_timestamp(clock.now_us()), note=request.note
    )
    note = f": {request.note}" if request.note else ""
    moves.advance(
        connection,
        run,
        RunState.CONFIRMED,
        f"confirmed by {by.login}{note}",
        by=by,
        confirmation=confirmation.SerializeToString(deterministic=True),
    )
    requests.remember(connection, by.id, _METHOD, request.request_id, request, run.id)
    return str(run.stack_id)
