"""Limits in the database, and what is counted against them. The only place of the package with SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from control_plane.limits.limit import EACH, Kind, Limit
from control_plane.storage.tables import IS_ACTIVE, lanes, limits, runs, slots, stacks

_FIND = sa.select(limits).where(
    limits.c.kind == sa.bindparam("of_kind"), limits.c.subject == sa.bindparam("of_subject")
)
_HOLD = _FIND.with_for_update()
_PAGE = (
    sa.select(limits)
    .where(
        sa.tuple_(limits.c.kind, limits.c.subject)
        > sa.tuple_(sa.bindparam("after_kind"), sa.bindparam("after_subject"))
    )
    .order_by(limits.c.kind, limits.c.subject)
    .limit(sa.bindparam("at_most"))
)
_INSERT = sa.insert(limits)
_UPDATE = sa.update(limits).where(
    limits.c.kind == sa.bindparam("of_kind"), limits.c.subject == sa.bindparam("of_subject")
)
_DELETE = sa.delete(limits).where(
    limits.c.kind == sa.bindparam("of_kind"), limits.c.subject == sa.bindparam("of_subject")
)
_OF_ACTIVE = (
    sa.select(limits).where(limits.c.max_active.is_not(None)).order_by(limits.c.kind, limits.c.subject)
)
# Of several schedulers one counts and claims after the other, as long as there is something to count.
_HOLD_OF_ACTIVE = _OF_ACTIVE.with_for_update()
_OF_QUEUE = sa.select(limits).where(
    limits.c.kind.in_([Kind.CALLER.value, Kind.STACK.value]),
    limits.c.subject.in_([EACH, sa.bindparam("stack"), sa.bindparam("login")]),
    sa.or_(limits.c.max_queued.is_not(None), limits.c.queue_timeout_us.is_not(None)),
)
_LABELS = sa.select(limits.c.subject).where(
    limits.c.kind == sa.literal_column("'LABEL'"), limits.c.max_active.is_not(None)
)
_LABELS_OF_STACK = sa.select(stacks.c.labels).where(stacks.c.id == sa.bindparam("stack"))

# What is counted is what a runner has: plans that wait to be confirmed and slots that are lent need none.
_HAS_RUNNER = sa.and_(IS_ACTIVE, runs.c.assignment_id != sa.literal_column("''"))
_ACTIVE = (
    sa.select(runs.c.pool_id, runs.c.creator_login, sa.func.count().label("count"))
    .where(_HAS_RUNNER)
    .group_by(runs.c.pool_id, runs.c.creator_login)
)
_ACTIVE_BY_STACK = (
    sa.select(runs.c.stack_id, stacks.c.labels)
    .join(stacks, stacks.c.id == runs.c.stack_id)
    .where(_HAS_RUNNER)
)

_QUEUED_OF_STACK = (
    sa.select(slots.c.pending).where(slots.c.stack_id == sa.bindparam("stack")).with_for_update()
)
_LANES_OF_CALLER = sa.select(sa.func.coalesce(sa.func.sum(lanes.c.pending), 0)).where(
    lanes.c.caller_login == sa.bindparam("login"), lanes.c.pending > sa.literal_column("0")
)
# A lock by name, for there is no row that stands for a caller; it goes with the transaction.
_CALLERS_TURN_TO_COUNT = sa.select(
    sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(sa.bindparam("lock_name"), 0))
)
_IN_REVIEW = sa.select(sa.func.count()).where(runs.c.state == sa.literal_column("'PENDING_REVIEW'"))
_IN_REVIEW_OF_STACK = _IN_REVIEW.where(runs.c.stack_id == sa.bindparam("stack"))
_IN_REVIEW_OF_CALLER = _IN_REVIEW.where(runs.c.creator_login == sa.bindparam("login"))


def find(connection: sa.Connection, kind: Kind, subject: str, *, hold: bool = False) -> Limit | None:
    """`hold`: nobody else changes it, or counts against it to start runs, until the transaction ends."""
    key = {"of_kind": kind.value, "of_subject": subject}
    row = connection.execute(_HOLD if hold else _FIND, key).one_or_none()
    return None if row is None else _limit(row)


def page(connection: sa.Connection, after: tuple[str, str], at_most: int) -> list[Limit]:
    """By kind and subject, those behind `after`."""
    kind, subject = after
    rows = connection.execute(_PAGE, {"after_kind": kind, "after_subject": subject, "at_most": at_most})
    return [_limit(row) for row in rows]


def insert(connection: sa.Connection, limit: Limit) -> None:
    connection.execute(_INSERT, {"kind": limit.kind.value, "subject": limit.subject, **_columns(limit)})


def update(connection: sa.Connection, limit: Limit) -> None:
    statement = _UPDATE.values(**_columns(limit))
    connection.execute(statement, {"of_kind": limit.kind.value, "of_subject": limit.subject})


def delete(connection: sa.Connection, limit: Limit) -> None:
    connection.execute(_DELETE, {"of_kind": limit.kind.value, "of_subject": limit.subject})


def of_active(connection: sa.Connection, *, hold: bool) -> list[Limit]:
    """Those of active runs. `hold`: nobody else who holds them starts a run before the transaction ends."""
    return [_limit(row) for row in connection.execute(_HOLD_OF_ACTIVE if hold else _OF_ACTIVE)]


def of_queue(connection: sa.Connection, stack_id: str, caller_login: str) -> list[Limit]:
    """Those that a new run of this caller on this stack may meet while it waits."""
    rows = connection.execute(_OF_QUEUE, {"stack": stack_id, "login": caller_login})
    return [_limit(row) for row in rows]


def limited_labels(connection: sa.Connection) -> list[str]:
    return list(connection.execute(_LABELS).scalars())


def labels_of_stack(connection: sa.Connection, stack_id: str) -> list[str]:
    return list(connection.execute(_LABELS_OF_STACK, {"stack": stack_id}).scalar_one())


def active(connection: sa.Connection) -> Sequence[sa.Row[Any, Any, Any]]:
    """(pool_id, creator_login, count) of runs that a runner has."""
    return connection.execute(_ACTIVE).all()


def labels_of_active(connection: sa.Connection) -> list[list[str]]:
    """The labels of each stack on which a run is active that a runner has."""
    return [row.labels for row in connection.execute(_ACTIVE_BY_STACK)]


def waiting_on_stack(connection: sa.Connection, stack_id: str) -> int:
    """How many runs of the stack wait for a turn or for approval. No other can be queued before the transaction ends."""
    queued = int(connection.execute(_QUEUED_OF_STACK, {"stack": stack_id}).scalar_one())
    return queued + int(connection.execute(_IN_REVIEW_OF_STACK, {"stack": stack_id}).scalar_one())


def waiting_of_caller(connection: sa.Connection, caller_login: str) -> int:
    """How many runs of the caller wait for a turn or for approval, on all stacks.

    On PostgreSQL, whoever else counts for this caller waits until the transaction ends.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_CALLERS_TURN_TO_COUNT, {"lock_name": f"interlock/caller/{caller_login}"})
    queued = int(connection.execute(_LANES_OF_CALLER, {"login": caller_login}).scalar_one())
    return queued + int(connection.execute(_IN_REVIEW_OF_CALLER, {"login": caller_login}).scalar_one())


def _columns(limit: Limit) -> dict[str, object]:
    return {
        "id": limit.id,
        "max_active": limit.max_active,
        "max_queued": limit.max_queued,
        "queue_timeout_us": limit.queue_timeout_us,
        "version": limit.version,
        "created_at": limit.created_at,
        "updated_at": limit.updated_at,
    }


def _limit(row: sa.Row[Any]) -> Limit:
    return Limit(
        kind=Kind(row.kind),
        subject=row.subject,
        id=row.id,
        max_active=row.max_active,
        max_queued=row.max_queued,
        queue_timeout_us=row.queue_timeout_us,
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
