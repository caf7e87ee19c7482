"""Stacks by the eyes of a caller: what may be read or changed, as access policies say; admins may all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from control_plane.identity.principal import Principal
from control_plane.stacks import snapshot
from control_plane.stacks.snapshot import StackSnapshot
from control_plane.storage.database import Database


class Guard(Protocol):
    """Asks the access policies. Fails closed: where they cannot be asked, the answer is an error."""

    async def require_read(self, principal: Principal, stack: StackSnapshot) -> None:
        """Raises NotFound where the principal may not read the stack."""

    async def require_write(self, principal: Principal, stack: StackSnapshot) -> None:
        """Raises NotFound where the principal may not read the stack, NotAllowed where it may read only."""

    async def readable(self, principal: Principal, stacks: Sequence[StackSnapshot]) -> list[bool]:
        """For each of the stacks, whether the principal may read it."""


class Access:
    """Loads stacks for a principal, or says no. Policies are asked outside of transactions."""

    def __init__(self, database: Database, guard: Guard) -> None:
        self._database = database
        self._guard = guard

    async def readable(self, principal: Principal, stack_id: str) -> StackSnapshot:
        stack = await self._database.read(lambda connection: snapshot.load(connection, stack_id))
        if not principal.admin:
            await self._guard.require_read(principal, stack)
        return stack

    async def writable(self, principal: Principal, stack_id: str) -> StackSnapshot:
        return (await self.writable_all(principal, [stack_id]))[0]

    async def writable_all(self, principal: Principal, stack_ids: Sequence[str]) -> list[StackSnapshot]:
        """All of them, in this order, or an error."""
        stacks = await self._database.read(lambda connection: snapshot.load_many(connection, stack_ids))
        if not principal.admin:
            for stack in stacks:
                await self._guard.require_write(principal, stack)
        return stacks

    async def only_readable(
        self, principal: Principal, stacks: Sequence[StackSnapshot]
    ) -> list[StackSnapshot]:
        """Those of the stacks that the principal may read."""
        if principal.admin or not stacks:
            return list(stacks)
        answers = await self._guard.readable(principal, stacks)
        return [stack for stack, may_read in zip(stacks, answers, strict=True) if may_read]
