"""What the limits of waiting runs say of one more, in the transaction that queues it."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from control_plane.limits import store
from control_plane.limits.errors import QueueIsFull
from control_plane.limits.limit import Kind, Limits, Reached


def require_room(
    connection: sa.Connection, stack_id: str, caller_login: str, *, retry_after_s: Callable[[], int]
) -> Limits:
    """Returns the limits that concern runs of this caller on this stack while they wait.

    Nobody else queues one for the same stack or caller before the transaction ends, where that is limited.

    Raises:
        QueueIsFull: with `retry_after_s` as its hint.
    """
    limits = Limits(store.of_queue(connection, stack_id, caller_login))
    # The caller before the stack, as everybody who counts both: nobody waits in a circle.
    counts = (
        (Kind.CALLER, caller_login, store.waiting_of_caller),
        (Kind.STACK, stack_id, store.waiting_on_stack),
    )
    for kind, subject, count in counts:
        limit = limits.of(kind, subject)
        if limit is None or limit.max_queued is None:
            continue
        waiting = count(connection, subject)
        if waiting >= limit.max_queued:
            raise QueueIsFull(Reached(kind, subject, limit.max_queued, waiting), retry_after_s())
    return limits


def may_wait_us(limits: Limits, stack_id: str, asked_us: int | None) -> int | None:
    """How long a new run may wait: as its caller asked, else as the stack's limit says; None: for ever."""
    if asked_us is not None:
        return asked_us
    limit = limits.of(Kind.STACK, stack_id)
    return limit.queue_timeout_us if limit else None
