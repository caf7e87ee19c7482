"""A hold's steps, each within a transaction: offered, confirmed, renewed, let go, expired.

The first renewal is a hold's gate. Before it nobody outside is at work, and a client that is gone costs nothing; after
it nothing but a word of its owner or of an admin frees the slot, unless it was asked for otherwise (invariant 3).
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from control_plane import errors
from control_plane.audit import events
from control_plane.identity.principal import Principal
from control_plane.runs import hold_store, moves, store
from control_plane.runs.errors import StaleToken, WrongState
from control_plane.runs.states import LENT, WAITING, RunState
from control_plane.storage.shared_clock import now_us
from interlock.v1 import run_pb2
from interlock.v1 import slot_service_pb2 as rpc

HOLD: Final = "HOLD"
DEFAULT_LEASE_US: Final = 60_000_000
# How long a place in the queue is kept while nobody says that somebody still waits; and after the last stream has ended.
WAIT_US: Final = 30_000_000
GONE_US: Final = 10_000_000
# How long an offered slot waits to be confirmed.
OFFER_US: Final = 15_000_000


def offer(connection: sa.Connection, run_id: str) -> bool:
    """Takes the slot for a hold whose turn it is. False, and nothing changed, where it is not."""
    run = store.find_to_move(connection, run_id)
    if run is None or run.id not in hold_store.next_in_turn(connection, [run.id]):
        return False
    fence = store.take_slot(connection, run.stack_id, run.id)
    if fence is None:
        return False
    moves.advance(
        connection,
        run,
        RunState.READY,
        "its turn on the stack has come; offered to whoever asked",
        fence=fence,
        lease_until=now_us(connection) + OFFER_US,
    )
    return True


def renew(
    connection: sa.Connection, by: Principal, request: rpc.RenewSlotRequest
) -> tuple[sa.Row[Any], bool]:
    """Confirms or renews. The row as it was, and whether its state was changed.

    Raises:
        NotFound, WrongState, StaleToken, NotAllowed: as SlotService.RenewSlot says.
    """
    run = _hold(connection, request.run_id)
    if run.creator_id != by.id:
        raise errors.NotAllowed(f"the hold {run.id} is {run.creator_login}'s; only its owner renews it")
    state = RunState(run.state)
    if state.is_final:
        raise WrongState(run.id, f"the hold {run.id} is over: it is {state}: {run.state_reason}")
    if state in WAITING:
        raise WrongState(run.id, f"the hold {run.id} has not got the slot yet: it is {state}")
    _require_token(run, request.fencing_token)
    lease_until = now_us(connection) + run.lease_us
    if state is RunState.HELD:
        # As a runner's heartbeat: a sign of life, and no change that the audit log speaks of.
        store.update(connection, run.id, lease_until=lease_until)
        return run, False
    columns: dict[str, object] = {"lease_until": lease_until}
    if state is RunState.READY:
        reason = f"{by.login} has received the slot"
        columns["performed_at"] = now_us(connection)
    else:
        reason = f"renewed by {by.login} after it had expired"
    moves.advance(connection, run, RunState.HELD, reason, by=by, **columns)
    return run, True


def release(
    connection: sa.Connection, by: Principal, request: rpc.ReleaseSlotRequest
) -> tuple[sa.Row[Any], bool]:
    """Lets go. The row as it was, and whether anything was changed: of what is over, nothing is.

    Raises:
        NotFound, WrongState, StaleToken, NotAllowed, InvalidField: as SlotService.ReleaseSlot says.
    """
    run = _hold(connection, request.run_id)
    state = RunState(run.state)
    is_owner = run.creator_id == by.id
    if not is_owner and not by.admin:
        raise errors.NotAllowed(
            f"the hold {run.id} is {run.creator_login}'s; only {run.creator_login} or an admin may let go of it"
        )
    if request.fencing_token:
        _require_token(run, request.fencing_token)
    if state.is_final:
        return run, False
    why = f": {request.reason}" if request.reason else ""
    if not is_owner:
        _take_away(connection, run, by, request)
    elif state in LENT:
        moves.end(connection, run, RunState.FINISHED, f"let go by {by.login}{why}", by=by)
    else:
        moves.end(
            connection, run, RunState.DISCARDED, f"given up by {by.login} before it was held{why}", by=by
        )
    return run, True


def grace_us(state: RunState, lease_us: int) -> int:
    """How long whoever has such a hold must have been able to speak up before its lease may end."""
    match state:
        case RunState.QUEUED:
            return WAIT_US
        case RunState.READY:
            return OFFER_US
        case _:
            return lease_us


def expire(connection: sa.Connection, run_id: str, served_since_us: int) -> sa.Row[Any] | None:
    """Ends the lease of a hold where it is over, and was heard by nobody although we were there to hear since
    `served_since_us`. The row as it was; None where nothing was changed."""
    run = store.find_to_move(connection, run_id)
    if run is None or run.lease_until is None:
        return None
    state, now = RunState(run.state), now_us(connection)
    if now < max(run.lease_until, served_since_us + grace_us(state, run.lease_us)):
        return None
    match state:
        case RunState.QUEUED:
            moves.end(
                connection, run, RunState.DISCARDED, "whoever asked for the slot does not wait any more"
            )
        case RunState.READY:
            moves.end(connection, run, RunState.DISCARDED, "the slot was offered, and nobody confirmed it")
        case RunState.HELD if run.release_on_expiry:
            moves.end(
                connection,
                run,
                RunState.FAILED,
                f"{run.creator_login} did not renew it, and wanted it to be released then",
                failure=run_pb2.RUN_FAILURE_HOLD_EXPIRED,
            )
            store.bump_fence(connection, run.stack_id)
        case RunState.HELD:
            reason = f"{run.creator_login} did not renew it; the slot stays taken until somebody lets go"
            moves.advance(connection, run, RunState.EXPIRED, reason)
        case _:
            return None
    return run


def _take_away(
    connection: sa.Connection, run: sa.Row[Any], by: Principal, request: rpc.ReleaseSlotRequest
) -> None:
    """An admin answers for what its owner may still be doing."""
    if not request.reason.strip():
        raise errors.InvalidField("reason", f"say why you let go of {run.creator_login}'s hold; it is kept")
    state = RunState(run.state)
    if state in WAITING:
        reason = f"taken out of the queue by {by.login}: {request.reason}"
        moves.end(connection, run, RunState.DISCARDED, reason, by=by)
        return
    if state is not RunState.EXPIRED and not request.force:
        raise WrongState(
            run.id,
            f"{run.creator_login} may be at work under {run.id} this moment, and its lease has not ended: ask them to "
            "let go, or do it with `force` if you answer for two at once on the stack",
        )
    moves.end(
        connection,
        run,
        RunState.FAILED,
        f"taken away by {by.login}: {request.reason}",
        by=by,
        failure=run_pb2.RUN_FAILURE_HOLD_TAKEN_AWAY,
    )
    store.bump_fence(connection, run.stack_id)
    events.record(
        connection,
        by,
        "hold.taken_away",
        "run",
        run.id,
        stack_id=run.stack_id,
        details={
            "reason": request.reason,
            "force": request.force,
            "fence": run.fence,
            "owner": run.creator_login,
            "state": run.state,
        },
    )


def _hold(connection: sa.Connection, run_id: str) -> sa.Row[Any]:
    run = store.find_to_move(connection, run_id)
    if run is None:
        raise errors.NotFound("run", run_id)
    if run.type != HOLD:
        raise WrongState(
            run.id, f"{run.id} is no hold: it is a {run.type.lower()} run, and has the slot on its own"
        )
    return run


def _require_token(run: sa.Row[Any], token: int) -> None:
    if token != run.fence:
        raise StaleToken(run.id, token)
