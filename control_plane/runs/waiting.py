"""Why a run waits. Pure: from what holds it up to the one sentence that its owner reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from control_plane import clock
from control_plane.runs.states import RunState
from interlock.v1 import caller_pb2, run_pb2


@dataclass(frozen=True, slots=True)
class Obstacles:
    """All that may keep a queued run from starting, as of one moment."""

    holder_run_id: str | None
    # Ids of the stack's queued runs, in the order in which they will start.
    queue: Sequence[str]
    lock_owner: caller_pb2.Caller | None
    connected_runners: int
    free_capacity: int
    pool_id: str
    # What holds the slot, in a clause for people.
    holder_is: str = ""


def holder_is(slot: sa.Row[Any]) -> str:
    """Of a row that `store.slot` gave; empty for a task, whose id says enough."""
    match slot.holder_type:
        case "TRACKED":
            return f"tracked run {slot.holder_run_id} in {slot.holder_state}"
        case "HOLD":
            return _hold_is(slot)
        case _:
            return ""


def _hold_is(slot: sa.Row[Any]) -> str:
    purpose = f" ({slot.holder_purpose})" if slot.holder_purpose else ""
    whose = f"{slot.holder_login}'s hold {slot.holder_run_id}{purpose}"
    if slot.holder_state != RunState.EXPIRED:
        return whose
    since = clock.to_timestamp(slot.holder_lease_until).ToJsonString()
    return f"{whose}, which expired at {since}: {slot.holder_login} or an admin has to let go of it"


def explain_run(
    run_id: str, creator_id: str, state: RunState, obstacles: Obstacles
) -> run_pb2.Waiting | None:
    """Why a run in this state does not go on; None where it is about to."""
    match state:
        case RunState.UNCONFIRMED:
            return run_pb2.Waiting(
                reason=run_pb2.WAIT_REASON_CONFIRMATION,
                message=f"its plan waits to be confirmed (interlock run confirm {run_id}) or discarded",
            )
        case RunState.CONFIRMED:
            return _without_runner(obstacles)
        case _:
            return explain(run_id, creator_id, obstacles)


def for_approval(reason: str) -> run_pb2.Waiting:
    """Why a run is in PENDING_REVIEW; `reason` is what its approval policies came to, empty before they were asked."""
    return run_pb2.Waiting(
        reason=run_pb2.WAIT_REASON_APPROVAL, message=reason or "its approval policies are being asked"
    )


def explain(run_id: str, creator_id: str, obstacles: Obstacles) -> run_pb2.Waiting | None:
    """The first obstacle in a queued run's way; None where it is about to start."""
    return explain_place(run_id, creator_id, obstacles) or _without_runner(obstacles)


def explain_place(run_id: str, creator_id: str, obstacles: Obstacles) -> run_pb2.Waiting | None:
    """As `explain`, of a run that needs no runner: what holds it up on its stack."""
    earlier = [other for other in obstacles.queue if other < run_id]
    ahead = len(earlier) + (1 if obstacles.holder_run_id else 0)
    if obstacles.lock_owner is not None and obstacles.lock_owner.id != creator_id:
        return run_pb2.Waiting(
            reason=run_pb2.WAIT_REASON_STACK_LOCKED,
            message=f"the stack is locked by {obstacles.lock_owner.login}",
            lock_owner=obstacles.lock_owner,
            runs_ahead=ahead,
        )
    if obstacles.holder_run_id:
        return run_pb2.Waiting(
            reason=run_pb2.WAIT_REASON_SLOT_TAKEN,
            message=f"waits for {obstacles.holder_is}"
            if obstacles.holder_is
            else f"{obstacles.holder_run_id} is active on the stack",
            blocking_run_id=obstacles.holder_run_id,
            runs_ahead=ahead,
        )
    if earlier:
        return run_pb2.Waiting(
            reason=run_pb2.WAIT_REASON_EARLIER_RUN,
            message=f"{earlier[0]} comes first",
            blocking_run_id=earlier[0],
            runs_ahead=ahead,
        )
    return None


def _without_runner(obstacles: Obstacles) -> run_pb2.Waiting | None:
    if obstacles.connected_runners == 0:
        return run_pb2.Waiting(
            reason=run_pb2.WAIT_REASON_NO_RUNNER,
            message=f"no runner of pool {obstacles.pool_id} is connected",
        )
    if obstacles.free_capacity == 0:
        return run_pb2.Waiting(
            reason=run_pb2.WAIT_REASON_NO_CAPACITY,
            message=f"every runner of pool {obstacles.pool_id} is busy, draining or without its engine",
        )
    return None
