"""Writing to the audit log: one call inside the transaction of the change."""

from __future__ import annotations

import json
from collections.abc import Mapping

import sqlalchemy as sa

from control_plane import clock, ids
from control_plane.identity.principal import Principal
from control_plane.storage.tables import audit_events

_INSERT = sa.insert(audit_events)


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
    event_id = ids.new_id("evt")
    connection.execute(
        _INSERT,
        {
            "id": event_id,
            "occurred_at": clock.now_us(),
            "caller_id": principal.id,
            "caller_login": principal.login,
            "caller": principal.to_caller().SerializeToString(deterministic=True),
            "action": action,
            "resource_type": resource_type,
            "resource_id": resource_id,
            "stack_id": stack_id,
            "remote_ip": principal.remote_ip,
            "details": json.dumps(details or {}, sort_keys=True, ensure_ascii=False),
        },
    )
    return event_id
