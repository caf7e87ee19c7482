"""What holds a stack's slot, as the API's messages."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from control_plane.clock import to_duration, to_timestamp
from interlock.v1 import caller_pb2, run_pb2, stack_pb2


def of_stack(row: sa.Row[Any]) -> stack_pb2.SlotHolder | None:
    """Of a row that `store.find` gave; None while the slot is free."""
    if row.holder_run_id is None:
        return None
    holder = stack_pb2.SlotHolder(
        run_id=row.holder_run_id,
        type=run_pb2.RunType.Value(f"RUN_TYPE_{row.active_run_type}"),
        state=run_pb2.RunState.Value(f"RUN_STATE_{row.active_run_state}"),
        owner=caller_pb2.Caller.FromString(row.active_run_owner),
    )
    if row.hold_lease_us is not None:
        terms = to_hold(
            row.hold_purpose,
            row.hold_lease_us,
            row.hold_lease_until,
            release_on_expiry=row.hold_release_on_expiry,
        )
        holder.hold.CopyFrom(terms)
    return holder


def to_hold(purpose: str, lease_us: int, lease_until: int | None, *, release_on_expiry: bool) -> run_pb2.Hold:
    """What is agreed about a slot that is lent; `lease_until` is None where no lease runs."""
    hold = run_pb2.Hold(purpose=purpose, lease=to_duration(lease_us), release_on_expiry=release_on_expiry)
    if lease_until is not None:
        hold.lease_end_time.CopyFrom(to_timestamp(lease_until))
    return hold
