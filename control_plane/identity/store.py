"""API keys and sessions in the database. The only place of the package with SQL."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from control_plane import ids
from control_plane.identity.api_key import ApiKey
from control_plane.identity.login import Login
from control_plane.storage.tables import api_keys, sessions

_COLUMNS = [column for column in api_keys.c if column is not api_keys.c.secret_hash]
_IN_FORCE = sa.and_(
    api_keys.c.revoked_at.is_(None),
    sa.or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > sa.bindparam("now")),
)

_INSERT = sa.insert(api_keys)
_FIND = sa.select(*_COLUMNS).where(api_keys.c.id == sa.bindparam("key_id"))
# The hash is read for an exchange alone, and goes no further than the rule that compares it.
_FIND_HASH = sa.select(api_keys.c.secret_hash).where(api_keys.c.id == sa.bindparam("key_id"))
_ANY = sa.select(sa.exists().where(api_keys.c.id.is_not(None)))
_FIND_LOGIN = sa.select(*_COLUMNS).where(
    api_keys.c.login == sa.bindparam("login"), api_keys.c.revoked_at.is_(None)
)
# Admins in force are locked together, so that of two who revoke each other at once one stays.
_ADMINS = (
    sa.select(api_keys.c.id).where(api_keys.c.admin, _IN_FORCE).order_by(api_keys.c.id).with_for_update()
)
_PAGE = (
    sa.select(*_COLUMNS)
    .where(api_keys.c.id < sa.bindparam("before"))
    .order_by(api_keys.c.id.desc())
    .limit(sa.bindparam("limit"))
)
_PAGE_IN_FORCE = _PAGE.where(_IN_FORCE)
# A key is revoked once; the first moment stays.
_REVOKE = (
    sa.update(api_keys)
    .where(api_keys.c.id == sa.bindparam("key_id"), api_keys.c.revoked_at.is_(None))
    .values(revoked_at=sa.bindparam("at"))
)
_NOTE_USE = (
    sa.update(api_keys).where(api_keys.c.id == sa.bindparam("key_id")).values(last_used_at=sa.bindparam("at"))
)
_INSERT_SESSION = sa.insert(sessions)
_FIND_SESSION = sa.select(sessions).where(sessions.c.id == sa.bindparam("session_id"))
_DELETE_SESSIONS = sa.delete(sessions).where(sessions.c.expires_at < sa.bindparam("now"))
# Sorts after every id, under any collation: the cursor of the first page.
_END = "z"


def insert(connection: sa.Connection, key: ApiKey, secret_hash: bytes) -> None:
    connection.execute(
        _INSERT,
        {
            "id": key.id,
            "name": key.name,
            "login": key.login,
            "teams": list(key.teams),
            "admin": key.admin,
            "machine": key.machine,
            "secret_hash": secret_hash,
            "created_at": key.created_at,
            "expires_at": key.expires_at,
        },
    )


def find(connection: sa.Connection, key_id: str) -> ApiKey | None:
    row = connection.execute(_FIND, {"key_id": key_id}).one_or_none()
    return None if row is None else _api_key(row)


def find_with_hash(connection: sa.Connection, key_id: str) -> tuple[ApiKey, bytes] | None:
    key = find(connection, key_id)
    if key is None:
        return None
    return key, bytes(connection.execute(_FIND_HASH, {"key_id": key_id}).scalar_one())


def exists_any(connection: sa.Connection) -> bool:
    return bool(connection.execute(_ANY).scalar_one())


def find_login(connection: sa.Connection, login: str) -> ApiKey | None:
    """The key with this login that nobody has revoked; it may have expired."""
    row = connection.execute(_FIND_LOGIN, {"login": login}).one_or_none()
    return None if row is None else _api_key(row)


def admin_ids(connection: sa.Connection, now_us: int) -> set[str]:
    """Admin keys in force, which stay as they are until the transaction ends."""
    return set(connection.execute(_ADMINS, {"now": now_us}).scalars())


def page(
    connection: sa.Connection, *, before: str, limit: int, now_us: int, with_ended: bool
) -> list[ApiKey]:
    """Newest first, from the one after id `before` on ("" for the newest)."""
    parameters: dict[str, Any] = {"before": before or _END, "limit": limit}
    if with_ended:
        rows = connection.execute(_PAGE, parameters)
    else:
        rows = connection.execute(_PAGE_IN_FORCE, {**parameters, "now": now_us})
    return [_api_key(row) for row in rows]


def revoke(connection: sa.Connection, key_id: str, at_us: int) -> None:
    connection.execute(_REVOKE, {"key_id": key_id, "at": at_us})


def note_use(connection: sa.Connection, key_id: str, at_us: int) -> None:
    connection.execute(_NOTE_USE, {"key_id": key_id, "at": at_us})


def insert_session(
    connection: sa.Connection, key_id: str, login: Login, *, now_us: int, expires_at: int
) -> str:
    """Adds one, takes away those that are over, and returns its id."""
    connection.execute(_DELETE_SESSIONS, {"now": now_us})
    session_id = ids.new_id("ses")
    connection.execute(
        _INSERT_SESSION,
        {
            "id": session_id,
            "key_id": key_id,
            "teams": list(login.teams),
            "admin": login.admin,
            "decision_id": login.decision_id,
            "created_at": now_us,
            "expires_at": expires_at,
        },
    )
    return session_id


def find_session(connection: sa.Connection, session_id: str) -> Login | None:
    row = connection.execute(_FIND_SESSION, {"session_id": session_id}).one_or_none()
    return None if row is None else Login(tuple(row.teams), row.admin, row.decision_id)


def _api_key(row: sa.Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        login=row.login,
        teams=tuple(row.teams),
        admin=row.admin,
        machine=row.machine,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
