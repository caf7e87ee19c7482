"""Why a run waits. Pure: from what holds it up to the one sentence that its owner reads."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from control_plane import clock
from control_plane.limits.limit import Reached
from control_plane.runs.states import RunState
from interlock.v1 import caller_pb2, run_pb2


@dataclass(frozen=True, slots=True)
class Obstacles:
    """All that may keep a queued run from starting, as of one moment."""

    holder_run_id: str | None
    # How many queued runs of the stack start before it, and which of all is next.
    runs_before: int
    next_run_id: str
    lock_owner: caller_pb2.Caller | None
    connected_runners: int
    free_capacity: int
    pool_id: str
    # What holds the slot, in a clause for people.
    holder_is: str = ""
    # What keeps one more run like it from starting.
    limit: Reached | None = None
    # How long it takes until the slot has come to it; None: nobody knows.
    expected_wait_s: int | None = None


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
            return _without_start(obstacles)
        case _:
            return explain(creator_id, obstacles)


def for_approval(reason: str) -> run_pb2.Waiting:
    """Why a run is in PENDING_REVIEW; `reason` is what its approval policies came to, empty before they were asked."""
    return run_pb2.Waiting(
        reason=run_pb2.WAIT_REASON_APPROVAL, message=reason or "its approval policies are being asked"
    )


def explain(creator_id: str, obstacles: Obstacles) -> run_pb2.Waiting | None:
    """The first obstacle in a queued run's way; None where it is about to start."""
    return _placed(_without_slot(creator_id, obstacles) or _without_start(obstacles), obstacles)


def explain_place(creator_id: str, obstacles: Obstacles) -> run_pb2.Waiting | None:
    """As `explain`, of a run that needs no runner: what holds it up on its stack."""
    return _placed(_without_slot(creator_id, obstacles), obstacles)


def usual_s(times_us: Sequence[int]) -> float | None:
    """How long a run usually has the slot, by how long the last ones had it; None where none had it."""
    return statistics.median(times_us) / 1e6 if times_us else None


def expected_wait_s(
    slot: sa.Row[Any],
    times_us: Sequence[int],
    runs_before: int,
    now_us: int,
) -> int | None:
    """Until the slot of a row that `store.slot` gave has come to a run; None where nobody can know."""
    usual = usual_s(times_us)
    if usual is None:
        return None
    rest = 0.0
    if slot.holder_run_id:
        waits_for_somebody = slot.holder_state == RunState.UNCONFIRMED or slot.unreachable_since is not None
        # Only what Interlock runs itself notes when it took the slot.
        if waits_for_somebody or slot.slot_taken_at is None:
            return None
        rest = max(0.0, usual - (now_us - slot.slot_taken_at) / 1e6)
    return round(rest + usual * runs_before)


def _without_slot(creator_id: str, obstacles: Obstacles) -> run_pb2.Waiting | None:
    if obstacles.lock_owner is not None and obstacles.lock_owner.id != creator_id:
        return run_pb2.Waiting(
            reason=run_pb2.WAIT_REASON_STACK_LOCKED,
            message=f"the stack is locked by {obstacles.lock_owner.login}",
            lock_owner=obstacles.lock_owner,
        )
    why = None
    if obstacles.holder_run_id:
        why = run_pb2.Waiting(
            reason=run_pb2.WAIT_REASON_SLOT_TAKEN,
            message=f"waits for {obstacles.holder_is}"
            if obstacles.holder_is
            else f"{obstacles.holder_run_id} is active on the stack",
            blocking_run_id=obstacles.holder_run_id,
        )
    elif obstacles.runs_before:
        why = run_pb2.Waiting(
            reason=run_pb2.WAIT_REASON_EARLIER_RUN,
            message=f"{obstacles.next_run_id} comes first",
            blocking_run_id=obstacles.next_run_id,
        )
    if why is not None and obstacles.expected_wait_s is not None:
        why.expected_wait.FromSeconds(obstacles.expected_wait_s)
    return why


def _placed(why: run_pb2.Waiting | None, obstacles: Obstacles) -> run_pb2.Waiting | None:
    if why is not None:
        why.runs_ahead = obstacles.runs_before + (1 if obstacles.holder_run_id else 0)
        why.position = obstacles.runs_before + 1
    return why


def _without_start(obstacles: Obstacles) -> run_pb2.Waiting | None:
    if obstacles.connected_runners == 0:
        return run_pb2.Waiting(
            reason=run_pb2.WAIT_REASON_NO_RUNNER,
            message=f"no runner of pool {obstacles.pool_id} is connected",
        )
    if (limit := obstacles.limit) is not None:
        return run_pb2.Waiting(
            reason=run_pb2.WAIT_REASON_LIMIT,
            message=f"{limit.count} runs of {limit.whose} are active, and a limit allows {limit.most}",
            limit=limit.to_proto(),
        )
    if obstacles.free_capacity == 0:
        return run_pb2.Waiting(
            reason=run_pb2.WAIT_REASON_NO_CAPACITY,
            message=f"every runner of pool {obstacles.pool_id} is busy, draining or without its engine",
        )
    return None
