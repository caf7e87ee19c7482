"""Pools and their tokens: who may change them, and what must not happen to those in use."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

import sqlalchemy as sa
from google.protobuf import json_format
from google.protobuf.message import Message

from control_plane import clock, errors, ids
from control_plane.audit import events
from control_plane.identity.credentials import Credential
from control_plane.identity.errors import BadCredentials
from control_plane.identity.principal import Principal
from control_plane.pools import container_options, store
from control_plane.pools.connections import Connections
from control_plane.pools.pool import PUBLIC_POOL_ID, Pool, PoolToken
from control_plane.replicas.bus import Bus, Nobody
from control_plane.replicas.notes import Kind
from control_plane.storage import requests
from control_plane.storage.database import Database

# What UpdatePool may change.
MUTABLE: Final = frozenset({"name", "labels", "container"})
_CREATE_POOL: Final = "CreatePool"
_CREATE_TOKEN: Final = "CreatePoolToken"  # noqa: S105  # the method's name
_NAMED_IN_ERRORS: Final = 5


class Pools:
    def __init__(
        self,
        db: Database,
        connections: Connections,
        bus: Bus | None = None,
        *,
        now_us: Callable[[], int] = clock.now_us,
    ) -> None:
        self._db = db
        self._bus = bus or Nobody()
        self._connections = connections
        self._now_us = now_us

    async def create(self, caller: Principal, draft: Pool, *, request_id: str, content: Message) -> Pool:
        """A new pool; an empty id is derived from the name.

        Raises:
            NotAllowed: the caller is no admin.
            InvalidField: no id, or container options that cannot be.
            AlreadyExists: the id is taken.
        """
        caller.require_admin("create pools")
        _check_name(draft.name)
        container_options.check(draft.container, "pool.container")
        pool_id = draft.id or ids.slug(draft.name)
        if not pool_id:
            raise errors.InvalidField("pool.id", "cannot be derived from this name; give one")
        pool = replace(draft, id=pool_id, created_at=self._now_us())

        def unit(connection: sa.Connection) -> Pool:
            earlier = requests.find(connection, caller.id, _CREATE_POOL, request_id, content)
            if earlier is not None:
                return _existing(connection, earlier)
            if store.find_pool(connection, pool.id) is not None:
                raise errors.AlreadyExists("pool", pool.id)
            store.insert_pool(connection, pool)
            requests.remember(connection, caller.id, _CREATE_POOL, request_id, content, pool.id)
            events.record(
                connection,
                caller,
                "pool.created",
                "pool",
                pool.id,
                details={**_details(pool), "public": pool.public},
            )
            return pool

        return await self._db.write(unit)

    async def get(self, pool_id: str) -> Pool:
        return await self._db.read(lambda connection: _existing(connection, pool_id))

    async def page(self, *, after: str, limit: int) -> list[Pool]:
        """By id, from the one after `after` on."""
        return await self._db.read(
            lambda connection: store.page_of_pools(connection, after=after, limit=limit)
        )

    async def update(self, caller: Principal, draft: Pool, fields: Collection[str]) -> Pool:
        """Takes these fields from `draft`; containers that were made before stay as they are.

        Raises:
            NotAllowed: the caller is no admin.
            InvalidField: a field that cannot be changed, or not to this.
            NotFound: there is no such pool.
        """
        caller.require_admin("change pools")
        _check_mask(fields)
        if "name" in fields:
            _check_name(draft.name)
        if "container" in fields:
            container_options.check(draft.container, "pool.container")
        changes = {field: getattr(draft, field) for field in fields}

        def unit(connection: sa.Connection) -> Pool:
            before = _existing(connection, draft.id, hold=True)
            after = replace(before, **changes)
            if after != before:
                store.update_pool(connection, after)
                changed = {key: value for key, value in _details(after).items() if key in fields}
                events.record(connection, caller, "pool.updated", "pool", after.id, details=changed)
            return after

        return await self._db.write(unit)

    async def delete(self, caller: Principal, pool_id: str) -> None:
        """Takes its tokens and runners with it.

        Raises:
            NotAllowed: the caller is no admin.
            NotFound: there is no such pool.
            InUse: it is "public", or stacks name it, or runs of it are not over.
        """
        caller.require_admin("delete pools")
        if pool_id == PUBLIC_POOL_ID:
            raise errors.InUse("pool 'public' is where stacks run that name no other; it cannot be deleted")

        def unit(connection: sa.Connection) -> None:
            pool = _existing(connection, pool_id, hold=True)
            _require_unused(connection, pool_id)
            store.delete_pool(connection, pool_id)
            events.record(connection, caller, "pool.deleted", "pool", pool_id, details={"name": pool.name})

        await self._db.write(unit)
        for connection in self._connections.of_pool(pool_id):
            connection.end(BadCredentials("pool token"))
        self._bus.tell(Kind.POOL, pool_id)

    async def create_token(
        self, caller: Principal, pool_id: str, name: str, *, request_id: str, content: Message
    ) -> tuple[PoolToken, Credential | None]:
        """The new token with its secret; the token alone where `request_id` has made it before.

        Raises:
            NotAllowed: the caller is no admin.
            NotFound: there is no such pool.
        """
        caller.require_admin("create pool tokens")
        token = PoolToken(ids.new_id("ptk"), pool_id, name, self._now_us())
        credential = Credential.new(token.id)

        def unit(connection: sa.Connection) -> tuple[PoolToken, Credential | None]:
            earlier = requests.find(connection, caller.id, _CREATE_TOKEN, request_id, content)
            if earlier is not None:
                return _existing_token(connection, earlier), None
            _existing(connection, pool_id)
            store.insert_token(connection, token, credential.hashed())
            requests.remember(connection, caller.id, _CREATE_TOKEN, request_id, content, token.id)
            details = {"pool_id": pool_id, "name": name}
            events.record(connection, caller, "pool_token.created", "pool_token", token.id, details=details)
            return token, credential

        return await self._db.write(unit)

    async def page_of_tokens(
        self, caller: Principal, pool_id: str, *, before: str, limit: int
    ) -> list[PoolToken]:
        """Newest first, from the one after id `before` on."""
        caller.require_admin("list pool tokens")

        def unit(connection: sa.Connection) -> list[PoolToken]:
            _existing(connection, pool_id)
            return store.page_of_tokens(connection, pool_id, before=before, limit=limit)

        return await self._db.read(unit)

    async def revoke_token(self, caller: Principal, token_id: str) -> PoolToken:
        """Ends the connections of its runners; what they perform goes on. Repeating it is harmless.

        Raises:
            NotAllowed: the caller is no admin.
            NotFound: there was never such a token, or its pool was deleted.
        """
        caller.require_admin("revoke pool tokens")
        now = self._now_us()

        def unit(connection: sa.Connection) -> PoolToken:
            token = _existing_token(connection, token_id)
            if token.revoked_at is not None:
                return token
            store.revoke_token(connection, token_id, now)
            details = {"pool_id": token.pool_id, "name": token.name}
            events.record(connection, caller, "pool_token.revoked", "pool_token", token_id, details=details)
            return replace(token, revoked_at=now)

        revoked = await self._db.write(unit)
        self._connections.end_token(token_id, BadCredentials("pool token"))
        self._bus.tell(Kind.POOL_TOKEN, token_id)
        return revoked


def _check_name(name: str) -> None:
    if not name:
        raise errors.InvalidField("pool.name", "must not be empty")


def _check_mask(fields: Collection[str]) -> None:
    if not fields:
        raise errors.InvalidField("update_mask", f"names no field; any of {', '.join(sorted(MUTABLE))}")
    if unknown := sorted(set(fields) - MUTABLE):
        raise errors.InvalidField(
            "update_mask", f"{unknown[0]!r} cannot be changed; any of {', '.join(sorted(MUTABLE))}"
        )


def _existing(connection: sa.Connection, pool_id: str, *, hold: bool = False) -> Pool:
    pool = store.find_pool(connection, pool_id, hold=hold)
    if pool is None:
        raise errors.NotFound("pool", pool_id)
    return pool


def _existing_token(connection: sa.Connection, token_id: str) -> PoolToken:
    token = store.find_token(connection, token_id)
    if token is None:
        raise errors.NotFound("pool_token", token_id)
    return token


def _require_unused(connection: sa.Connection, pool_id: str) -> None:
    if stacks := store.stacks_of_pool(connection, pool_id, _NAMED_IN_ERRORS):
        raise errors.InUse(f"stacks name pool {pool_id!r}: {', '.join(stacks)}; give them another pool first")
    if runs := store.open_runs_of_pool(connection, pool_id, _NAMED_IN_ERRORS):
        raise errors.InUse(f"runs of pool {pool_id!r} are not over: {', '.join(runs)}")


def _details(pool: Pool) -> dict[str, object]:
    return {
        "name": pool.name,
        "labels": list(pool.labels),
        "container": json_format.MessageToDict(pool.container, preserving_proto_field_name=True),
    }
