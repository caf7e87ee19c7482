"""Audit events and their seals in the database. The only place of the package with SQL, but for events.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from control_plane import ids
from control_plane.audit.chain import Event, Head, Seal
from control_plane.storage.tables import audit_events, audit_seals, audit_unsealed

_SEAL_OF_EVENT = audit_seals.c.event_id == audit_events.c.id
# The event's columns and the seal's, for a row of the log as a reader sees it.
_SEALED_EVENTS = sa.select(
    audit_events, audit_seals.c.sequence, audit_seals.c.previous_hash, audit_seals.c.hash
).select_from(audit_events.outerjoin(audit_seals, _SEAL_OF_EVENT))

# The log in the order of its seals; an event that is gone leaves its columns empty.
_LOG = (
    sa.select(
        audit_seals.c.sequence,
        audit_seals.c.event_id,
        audit_seals.c.previous_hash,
        audit_seals.c.hash,
        *audit_events.c,
    )
    .select_from(audit_seals.outerjoin(audit_events, _SEAL_OF_EVENT))
    .where(audit_seals.c.sequence > sa.bindparam("after"))
    .order_by(audit_seals.c.sequence)
    .limit(sa.bindparam("limit"))
)
_HEAD = sa.select(audit_seals.c.sequence, audit_seals.c.hash).order_by(audit_seals.c.sequence.desc()).limit(1)

# What is still to be sealed, oldest first. Reads as much as there is of it, however long the log is.
_UNSEALED = (
    sa.select(audit_events)
    .join(audit_unsealed, audit_unsealed.c.event_id == audit_events.c.id)
    .order_by(audit_unsealed.c.event_id)
    .limit(sa.bindparam("limit"))
)
_ANY_UNSEALED = sa.select(sa.exists(sa.select(audit_unsealed.c.event_id)))
# Of two control planes that seal at once, the primary key (sequence) stops the second, which tries again.
_INSERT_SEAL = sa.insert(audit_seals)
_FORGET_UNSEALED = sa.delete(audit_unsealed).where(audit_unsealed.c.event_id == sa.bindparam("sealed_id"))

# Any number that nobody else locks in this database: "sealing" in ASCII.
_TRY_TO_SEAL = sa.select(sa.func.pg_try_advisory_xact_lock(0x7365616C696E67))

_COUNT_UNSEALED = sa.select(sa.func.count()).select_from(audit_unsealed)
# An event that is neither sealed nor waiting for it: its seal was taken out, or it was put in past the trigger.
_ORPHAN = (
    sa.select(sa.func.min(audit_events.c.id))
    .select_from(
        audit_events.outerjoin(audit_seals, _SEAL_OF_EVENT).outerjoin(
            audit_unsealed, audit_unsealed.c.event_id == audit_events.c.id
        )
    )
    .where(audit_seals.c.event_id.is_(None), audit_unsealed.c.event_id.is_(None))
)
# The reverse: it waits for its seal and is not there.
_LOST = (
    sa.select(sa.func.min(audit_unsealed.c.event_id))
    .select_from(audit_unsealed.outerjoin(audit_events, audit_unsealed.c.event_id == audit_events.c.id))
    .where(audit_events.c.id.is_(None))
)
# Ids sort by time, as long as no clock is further out than this: times are looked up by id, without an index.
_CLOCK_MARGIN_US = 3_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which events a reader wants; empty and None stand for all. Times are Unix microseconds."""

    caller_login: str = ""
    action: str = ""
    resource_id: str = ""
    stack_id: str = ""
    after_us: int | None = None
    before_us: int | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    event: Event
    seal: Seal | None


def page(connection: sa.Connection, wanted: Filter, *, before: str, limit: int) -> list[Listed]:
    """Newest first, from the one after id `before` on ("" for the newest)."""
    statement = _SEALED_EVENTS.where(*_conditions(wanted)).order_by(audit_events.c.id.desc()).limit(limit)
    if before:
        statement = statement.where(audit_events.c.id < before)
    return [
        Listed(_event(row), None if row.sequence is None else _seal(row, row.id))
        for row in connection.execute(statement)
    ]


def log_after(connection: sa.Connection, sequence: int, limit: int) -> list[tuple[Seal, Event | None]]:
    """The next seals in order, each with its event, None where that is gone."""
    rows = connection.execute(_LOG, {"after": sequence, "limit": limit})
    return [(_seal(row, row.event_id), None if row.id is None else _event(row)) for row in rows]


def head(connection: sa.Connection) -> Head:
    row = connection.execute(_HEAD).one_or_none()
    return Head() if row is None else Head(row.sequence, row.hash)


def unsealed(connection: sa.Connection, limit: int) -> list[Event]:
    return [_event(row) for row in connection.execute(_UNSEALED, {"limit": limit})]


def has_unsealed(connection: sa.Connection) -> bool:
    return bool(connection.execute(_ANY_UNSEALED).scalar_one())


def count_unsealed(connection: sa.Connection) -> int:
    return int(connection.execute(_COUNT_UNSEALED).scalar_one())


def first_orphan(connection: sa.Connection) -> str | None:
    """The oldest event that has no seal and will get none."""
    orphan: str | None = connection.execute(_ORPHAN).scalar_one_or_none()
    return orphan


def first_lost(connection: sa.Connection) -> str | None:
    """The oldest event that was taken out before it was sealed."""
    lost: str | None = connection.execute(_LOST).scalar_one_or_none()
    return lost


def may_seal(connection: sa.Connection) -> bool:
    """Whether nobody else seals until this transaction ends. On SQLite nobody can."""
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.execute(_TRY_TO_SEAL).scalar_one())


def add_seals(connection: sa.Connection, seals: Sequence[Seal]) -> None:
    connection.execute(
        _INSERT_SEAL,
        [
            {
                "sequence": seal.sequence,
                "event_id": seal.event_id,
                "previous_hash": seal.previous_hash,
                "hash": seal.hash,
            }
            for seal in seals
        ],
    )
    connection.execute(_FORGET_UNSEALED, [{"sealed_id": seal.event_id} for seal in seals])


def _conditions(wanted: Filter) -> list[sa.ColumnElement[bool]]:
    columns = audit_events.c
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.caller_login:
        conditions.append(columns.caller_login == wanted.caller_login)
    if wanted.action.endswith("."):
        conditions.append(columns.action.startswith(wanted.action, autoescape=True))
    elif wanted.action:
        conditions.append(columns.action == wanted.action)
    if wanted.resource_id:
        conditions.append(columns.resource_id == wanted.resource_id)
    if wanted.stack_id:
        conditions.append(columns.stack_id == wanted.stack_id)
    if wanted.after_us is not None:
        conditions.append(columns.occurred_at >= wanted.after_us)
        conditions.append(columns.id >= ids.first_id("evt", wanted.after_us - _CLOCK_MARGIN_US))
    if wanted.before_us is not None:
        conditions.append(columns.occurred_at < wanted.before_us)
        conditions.append(columns.id < ids.first_id("evt", wanted.before_us + _CLOCK_MARGIN_US))
    return conditions


def _event(row: sa.Row[Any]) -> Event:
    return Event(
        id=row.id,
        occurred_at=row.occurred_at,
        caller_id=row.caller_id,
        caller_login=row.caller_login,
        caller=row.caller,
        action=row.action,
        resource_type=row.resource_type,
        resource_id=row.resource_id,
        stack_id=row.stack_id,
        remote_ip=row.remote_ip,
        details=row.details,
    )


def _seal(row: sa.Row[Any], event_id: str) -> Seal:
    return Seal(row.sequence, event_id, row.previous_hash, row.hash)
