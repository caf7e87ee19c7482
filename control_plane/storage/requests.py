"""`request_id`: the same one with the same content gives the same resource again, in the same transaction."""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from google.protobuf.message import Message

from control_plane import clock, errors
from control_plane.storage.tables import requests

_FIND = sa.select(requests.c.content_sha256, requests.c.resource_id).where(
    requests.c.principal_id == sa.bindparam("principal_id"),
    requests.c.method == sa.bindparam("method"),
    requests.c.request_id == sa.bindparam("request_id"),
)
_INSERT = sa.insert(requests)


def find(
    connection: sa.Connection, principal_id: str, method: str, request_id: str, content: Message
) -> str | None:
    """The id of the resource that this request made before; None where it is new or has no request_id.

    Raises:
        errors.RequestIdReused: it was used with other content.
    """
    if not request_id:
        return None
    key = {"principal_id": principal_id, "method": method, "request_id": request_id}
    row = connection.execute(_FIND, key).one_or_none()
    if row is None:
        return None
    if row.content_sha256 != _digest(content):
        raise errors.RequestIdReused(request_id)
    return str(row.resource_id)


def remember(
    connection: sa.Connection,
    principal_id: str,
    method: str,
    request_id: str,
    content: Message,
    resource_id: str,
) -> None:
    """Notes what the request made. Does nothing without a request_id."""
    if request_id:
        connection.execute(
            _INSERT,
            {
                "principal_id": principal_id,
                "method": method,
                "request_id": request_id,
                "content_sha256": _digest(content),
                "resource_id": resource_id,
                "created_at": clock.now_us(),
            },
        )


def _digest(content: Message) -> str:
    return hashlib.sha256(content.SerializeToString(deterministic=True)).hexdigest()
