"""Who may set limits, and to what. Each change is one transaction with its audit event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import sqlalchemy as sa

from control_plane import clock, errors, ids
from control_plane.audit import events
from control_plane.identity.principal import Principal
from control_plane.limits import store
from control_plane.limits.caps import Caps
from control_plane.limits.limit import EACH, Kind, Limit
from control_plane.storage.database import Database

_ADMIN_MAY: Final = "see and set limits"
# What can be set of each kind; a stack runs one at a time, whatever anybody sets.
_FIELDS: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.POOL: ("max_active",),
    Kind.LABEL: ("max_active",),
    Kind.CALLER: ("max_active", "max_queued"),
    Kind.STACK: ("max_queued", "queue_timeout"),
}


class LimitSettings:
    """`on_change` hears that runs may start, or wait for something else, than before."""

    def __init__(
        self,
        db: Database,
        *,
        on_change: Callable[[], None] = lambda: None,
        now_us: Callable[[], int] = clock.now_us,
    ) -> None:
        self._db = db
        self._on_change = on_change
        self._now_us = now_us

    async def set(self, caller: Principal, draft: Limit, etag: str) -> Limit:
        """
        Raises:
            NotAllowed: the caller is no admin.
            InvalidField: it sets nothing, or what its kind does not have.
            StaleEtag: it was changed since.
        """
        caller.require_admin(_ADMIN_MAY)
        _check(draft)
        now = self._now_us()

        def unit(connection: sa.Connection) -> Limit:
            before = store.find(connection, draft.kind, draft.subject, hold=True)
            if before is None:
                _require_etag(draft, "", etag)
                made = replace(draft, id=ids.new_id("lim"), version=1, created_at=now, updated_at=now)
                store.insert(connection, made)
                _record(connection, caller, "limit.set", made)
                return made
            _require_etag(before, before.etag, etag)
            after = replace(
                before,
                max_active=draft.max_active,
                max_queued=draft.max_queued,
                queue_timeout_us=draft.queue_timeout_us,
            )
            if after == before:
                return before
            after = replace(after, version=before.version + 1, updated_at=now)
            store.update(connection, after)
            _record(connection, caller, "limit.set", after)
            return after

        limit = await self._db.write(unit)
        self._on_change()
        return limit

    async def get(self, caller: Principal, kind: Kind, subject: str) -> tuple[Limit, int]:
        """The limit, and how many runs are active that it counts. Raises NotAllowed, NotFound."""
        caller.require_admin(_ADMIN_MAY)

        def unit(connection: sa.Connection) -> tuple[Limit, int]:
            limit = store.find(connection, kind, subject)
            if limit is None:
                raise errors.NotFound("limit", _name(kind, subject))
            return limit, Caps.read(connection).active(kind, subject)

        return await self._db.read(unit)

    async def page(self, caller: Principal, after: tuple[str, str], at_most: int) -> list[tuple[Limit, int]]:
        """By kind and subject, those behind `after`, each with what is active. Raises NotAllowed."""
        caller.require_admin(_ADMIN_MAY)

        def unit(connection: sa.Connection) -> list[tuple[Limit, int]]:
            caps = Caps.read(connection)
            limits = store.page(connection, after, at_most)
            return [(limit, caps.active(limit.kind, limit.subject)) for limit in limits]

        return await self._db.read(unit)

    async def delete(self, caller: Principal, kind: Kind, subject: str, etag: str) -> None:
        """Raises NotAllowed, NotFound, StaleEtag."""
        caller.require_admin(_ADMIN_MAY)

        def unit(connection: sa.Connection) -> None:
            limit = store.find(connection, kind, subject, hold=True)
            if limit is None:
                raise errors.NotFound("limit", _name(kind, subject))
            _require_etag(limit, limit.etag, etag)
            store.delete(connection, limit)
            _record(connection, caller, "limit.deleted", limit)

        await self._db.write(unit)
        self._on_change()


def _check(draft: Limit) -> None:
    if draft.kind is Kind.LABEL and draft.subject == EACH:
        raise errors.InvalidField("limit.subject", "there is no limit for each label; name one")
    given = {
        "max_active": draft.max_active,
        "max_queued": draft.max_queued,
        "queue_timeout": draft.queue_timeout_us,
    }
    may = _FIELDS[draft.kind]
    kind = draft.kind.value.lower()
    for field, value in given.items():
        if value is not None and field not in may:
            raise errors.InvalidField(f"limit.{field}", f"a {kind} has none; it has {' and '.join(may)}")
    if all(value is None for value in given.values()):
        raise errors.InvalidField("limit", f"sets nothing; give {' or '.join(may)}, or delete the limit")


def _require_etag(limit: Limit, current: str, etag: str) -> None:
    if etag and etag != current:
        raise errors.StaleEtag("limit", _name(limit.kind, limit.subject))


def _name(kind: Kind, subject: str) -> str:
    return f"{kind.value.lower()} {subject}"


def _record(connection: sa.Connection, caller: Principal, action: str, limit: Limit) -> None:
    details = {
        "kind": limit.kind.value,
        "subject": limit.subject,
        "max_active": limit.max_active,
        "max_queued": limit.max_queued,
        "queue_timeout_s": limit.queue_timeout_us / 1e6 if limit.queue_timeout_us is not None else None,
    }
    events.record(connection, caller, action, "limit", limit.id, details=details)
