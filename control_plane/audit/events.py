"""Writing to the audit log: one call inside the transaction of the change."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from control_plane import clock, ids
from control_plane.identity.principal import Principal
from control_plane.storage.tables import audit_events

_INSERT = sa.insert(audit_events)


@dataclass(frozen=True, slots=True)
class Event:
    """One of several that one principal causes. `details` as in `record`."""

    action: str
    resource_type: str
    resource_id: str
    stack_id: str = ""
    details: Mapping[str, object] = field(default_factory=dict)


def record(
    connection: sa.Connection,
    principal: Principal,
    action: str,
    resource_type: str,
    resource_id: str,
    *,
    stack_id: str = "",
    details: Mapping[str, object] | None = None,
) -> str:
    """Adds an event and returns its id. `details` must not hold a secret; it is stored as JSON with sorted keys."""
    event = Event(action, resource_type, resource_id, stack_id, details or {})
    row = _row(event, principal, principal.to_caller().SerializeToString(deterministic=True))
    connection.execute(_INSERT, row)
    return str(row["id"])


def record_all(connection: sa.Connection, principal: Principal, events: Sequence[Event]) -> None:
    """Adds them in this order, in one statement."""
    if not events:
        return
    caller = principal.to_caller().SerializeToString(deterministic=True)
    rows = [_row(event, principal, caller) for event in events]
    # psycopg sends a list of one in more messages than a row.
    connection.execute(_INSERT, rows if len(rows) > 1 else rows[0])


def _row(event: Event, principal: Principal, caller: bytes) -> dict[str, object]:
    return {
        "id": ids.new_id("evt"),
        "occurred_at": clock.now_us(),
        "caller_id": principal.id,
        "caller_login": principal.login,
        "caller": caller,
        "action": event.action,
        "resource_type": event.resource_type,
        "resource_id": event.resource_id,
        "stack_id": event.stack_id,
        "remote_ip": principal.remote_ip,
        "details": json.dumps(event.details, sort_keys=True, ensure_ascii=False),
    }
