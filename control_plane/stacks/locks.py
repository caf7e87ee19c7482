"""Locks on stacks: all or none of those asked for, and only their owner or an admin lets go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from control_plane import clock, errors
from control_plane.audit import events
from control_plane.identity.principal import Principal
from control_plane.ids import StackId
from control_plane.queue import lanes
from control_plane.stacks import snapshot, store
from control_plane.stacks.access import Access
from control_plane.stacks.errors import StackLocked
from control_plane.stacks.snapshot import StackSnapshot
from control_plane.storage.database import Database
from interlock.v1 import caller_pb2


def require_not_locked_against(principal: Principal, stack: StackSnapshot) -> None:
    """Raises StackLocked where somebody else holds the stack's lock. Admins are no exception."""
    lock = stack.lock
    if lock is not None and lock.owner.id != principal.id:
        raise StackLocked(stack.id, lock.owner, lock.note, lock.locked_at)


class Locks:
    """Taking and letting go of locks. `on_change` hears of each such stack, once that is durable."""

    def __init__(self, database: Database, access: Access, *, on_change: Callable[[StackId], None]) -> None:
        self._database = database
        self._access = access
        self._on_change = on_change

    async def lock(self, principal: Principal, stack_ids: Sequence[str], note: str) -> list[StackSnapshot]:
        """Raises StackLocked, and locks none, where somebody else holds one of them."""
        await self._access.writable_all(principal, stack_ids)

        def unit(connection: sa.Connection) -> list[StackSnapshot]:
            for row in _hold(connection, stack_ids):
                if row.lock_owner_id not in (None, principal.id):
                    owner = caller_pb2.Caller.FromString(row.lock_owner)
                    raise StackLocked(row.id, owner, row.lock_note, row.locked_at)
                store.change(
                    connection,
                    row.id,
                    lock_owner_id=principal.id,
                    lock_owner=principal.to_caller().SerializeToString(deterministic=True),
                    lock_note=note,
                    locked_at=row.locked_at or clock.now_us(),
                )
                lanes.stack_changed(connection, row.id)
                events.record(
                    connection,
                    principal,
                    "stack.locked",
                    "stack",
                    row.id,
                    stack_id=row.id,
                    details={"note": note},
                )
            return snapshot.load_many(connection, stack_ids)

        return self._announced(await self._database.write(unit))

    async def unlock(self, principal: Principal, stack_ids: Sequence[str]) -> list[StackSnapshot]:
        """Raises NotAllowed, and unlocks none, where one is another's and the principal is no admin."""
        await self._access.writable_all(principal, stack_ids)

        def unit(connection: sa.Connection) -> list[StackSnapshot]:
            for row in _hold(connection, stack_ids):
                if row.lock_owner_id is not None:
                    _unlock(connection, principal, row)
            return snapshot.load_many(connection, stack_ids)

        return self._announced(await self._database.write(unit))

    def _announced(self, stacks: list[StackSnapshot]) -> list[StackSnapshot]:
        for stack in stacks:
            self._on_change(stack.id)
        return stacks


def _unlock(connection: sa.Connection, principal: Principal, row: sa.Row[Any]) -> None:
    owner = caller_pb2.Caller.FromString(row.lock_owner)
    if row.lock_owner_id != principal.id and not principal.admin:
        raise errors.NotAllowed(
            f"stack {row.id!r} is locked by {owner.login}; only {owner.login} or an admin may unlock it"
        )
    store.change(connection, row.id, lock_owner_id=None, lock_owner=None, lock_note="", locked_at=None)
    lanes.stack_changed(connection, row.id)
    events.record(
        connection,
        principal,
        "stack.unlocked",
        "stack",
        row.id,
        stack_id=row.id,
        details={"owner": owner.login},
    )


def _hold(connection: sa.Connection, stack_ids: Sequence[str]) -> Sequence[sa.Row[Any]]:
    rows = store.hold(connection, stack_ids)
    for stack_id in set(stack_ids) - {row.id for row in rows}:
        raise errors.NotFound("stack", stack_id)
    return rows
