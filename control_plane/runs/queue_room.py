"""Room in the queue for one more run, and how long it may wait there."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from control_plane import clock
from control_plane.limits import queue
from control_plane.runs import store, waiting
from control_plane.storage.shared_clock import now_us
from interlock.v1 import run_service_pb2 as rpc
from interlock.v1 import slot_service_pb2 as slot_rpc

# What is said to whom the queue has no room for, where no run of the stack has ended yet; and at least and at most.
_RETRY_S: Final = 10
_RETRY_BOUNDS_S: Final = (1, 300)


def take(
    connection: sa.Connection,
    stack_id: str,
    caller_login: str,
    request: rpc.CreateTaskRequest | rpc.StartRunRequest | slot_rpc.AcquireSlotRequest | None = None,
) -> int | None:
    """Until when the run may wait that this transaction is about to queue; None: for ever.

    Raises:
        QueueIsFull: an admin allows no more of this caller's, or on this stack.
    """
    limits = queue.require_room(
        connection, stack_id, caller_login, retry_after_s=lambda: _retry_after_s(connection, stack_id)
    )
    asked_us = None
    if request is not None and request.HasField("queue_timeout"):
        asked_us = clock.from_duration(request.queue_timeout)
    may_wait_us = queue.may_wait_us(limits, stack_id, asked_us)
    return None if may_wait_us is None else now_us(connection) + may_wait_us


def _retry_after_s(connection: sa.Connection, stack_id: str) -> int:
    """By then a run of the stack has usually ended."""
    usual_s = waiting.usual_s(store.slot_times(connection, stack_id))
    least_s, most_s = _RETRY_BOUNDS_S
    return _RETRY_S if usual_s is None else round(min(max(usual_s, least_s), most_s))
