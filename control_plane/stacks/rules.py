"""What may be done with stacks: who makes, changes and deletes them. Each change is one transaction."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Final

import sqlalchemy as sa

from control_plane import clock, errors
from control_plane.audit import events
from control_plane.identity.principal import Principal
from control_plane.ids import StackId
from control_plane.keys import Sealer
from control_plane.limits import labels
from control_plane.queue import lanes
from control_plane.stacks import definition, fields, snapshot, store
from control_plane.stacks.access import Access
from control_plane.stacks.errors import StackBusy
from control_plane.stacks.git_url import GitRules
from control_plane.stacks.snapshot import StackSnapshot
from control_plane.storage import requests
from control_plane.storage.database import Database
from interlock.v1 import stack_pb2, stack_service_pb2

# One call of ListStacks looks at so many stacks at most, whether the caller may read them or not.
_BATCH: Final = 500
_BATCHES_AT_MOST: Final = 4


class Stacks:
    """Stacks themselves; their locks, environment and uploads have classes of their own."""

    def __init__(
        self,
        database: Database,
        access: Access,
        sealer: Sealer,
        *,
        git_rules: GitRules,
        on_change: Callable[[StackId], None],
    ) -> None:
        self._database = database
        self._access = access
        self._sealer = sealer
        self._git_rules = git_rules
        self._on_change = on_change

    async def create(
        self, principal: Principal, request: stack_service_pb2.CreateStackRequest
    ) -> StackSnapshot:
        """Raises AlreadyExists where the id is taken or was once, NotFound where the pool is not there."""
        principal.require_admin("create stacks")
        wanted = stack_pb2.Stack()
        wanted.CopyFrom(request.stack)
        fields.check(wanted, fields.CHANGEABLE, self._git_rules)
        wanted.id = definition.id_of(wanted)
        values = definition.columns(wanted, fields.CHANGEABLE, self._sealer, before=None)

        def unit(connection: sa.Connection) -> StackSnapshot:
            made_before = requests.find(connection, principal.id, "CreateStack", request.request_id, request)
            if made_before is not None:
                return snapshot.load(connection, made_before)
            _insert(connection, wanted.id, values)
            events.record(
                connection,
                principal,
                "stack.created",
                "stack",
                wanted.id,
                stack_id=wanted.id,
                details={"name": wanted.name, "labels": list(wanted.labels), "pool": values["pool_id"]},
            )
            requests.remember(connection, principal.id, "CreateStack", request.request_id, request, wanted.id)
            return snapshot.load(connection, wanted.id)

        return await self._database.write(unit)

    async def get(self, principal: Principal, stack_id: str) -> StackSnapshot:
        return await self._access.readable(principal, stack_id)

    async def list_page(
        self, principal: Principal, labels: Collection[str], after_id: str, page_size: int
    ) -> tuple[list[StackSnapshot], str]:
        """Readable stacks with all these labels, and the id that the next page comes after, "" at the end."""
        found: list[StackSnapshot] = []
        for _ in range(_BATCHES_AT_MOST):
            batch = await self._database.read(
                functools.partial(snapshot.load_page, after_id=after_id, at_most=_BATCH)
            )
            labelled = [stack for stack in batch if set(labels) <= set(stack.labels)]
            found += await self._access.only_readable(principal, labelled)
            if len(found) > page_size:
                return found[:page_size], found[page_size - 1].id
            if len(batch) < _BATCH:
                return found, ""
            after_id = batch[-1].id
        return found, after_id

    async def update(
        self, principal: Principal, wanted: stack_pb2.Stack, paths: Sequence[str]
    ) -> StackSnapshot:
        """Changes the fields in `paths`. Raises StaleEtag where `wanted` has an etag that is not current."""
        principal.require_admin("change stacks")
        fields.check_mask(paths)

        def unit(connection: sa.Connection) -> StackSnapshot:
            before = _hold(connection, wanted.id, wanted.etag)
            fields.check(_completed(wanted, paths, before), paths, self._git_rules)
            values = definition.columns(wanted, paths, self._sealer, before=before)
            _require_pool(connection, str(values.get("pool_id", before.pool.id)))
            store.change(connection, wanted.id, **values, updated_at=clock.now_us())
            if "pool_id" in values:
                lanes.stack_changed(connection, wanted.id)
            if "labels" in values:
                lanes.relabel(connection, wanted.id, labels.limited_of_stack(connection, wanted.id))
            events.record(
                connection,
                principal,
                "stack.updated",
                "stack",
                wanted.id,
                stack_id=wanted.id,
                details={"fields": sorted(set(paths))},
            )
            return snapshot.load(connection, wanted.id)

        after = await self._database.write(unit)
        self._on_change(after.id)
        return after

    async def delete(self, principal: Principal, stack_id: str, etag: str) -> None:
        """Raises StackBusy while a run is active or waits. The id stays taken, the runs stay on record."""
        principal.require_admin("delete stacks")

        def unit(connection: sa.Connection) -> None:
            before = _hold(connection, stack_id, etag)
            run = store.unfinished_run(connection, stack_id)
            if run is not None:
                raise StackBusy(stack_id, run.id, run.state)
            store.detach_policies(connection, stack_id)
            store.clear_environment(connection, stack_id)
            store.change(
                connection,
                stack_id,
                deleted_at=clock.now_us(),
                git_credential_sealed=None,
                lock_owner_id=None,
                lock_owner=None,
                lock_note="",
                locked_at=None,
            )
            events.record(
                connection,
                principal,
                "stack.deleted",
                "stack",
                stack_id,
                stack_id=stack_id,
                details={"name": before.name},
            )

        await self._database.write(unit)


def _insert(connection: sa.Connection, stack_id: str, values: dict[str, object]) -> None:
    was_given, was_deleted = store.was_ever(connection, stack_id)
    if was_deleted:
        message = f"stack {stack_id!r} existed and was deleted; its id stays with its record, choose another"
        raise errors.AlreadyExists("stack", stack_id, message)
    if was_given:
        raise errors.AlreadyExists("stack", stack_id)
    _require_pool(connection, str(values["pool_id"]))
    now = clock.now_us()
    store.insert(connection, {**values, "id": stack_id, "version": 1, "created_at": now, "updated_at": now})


def _require_pool(connection: sa.Connection, pool_id: str) -> None:
    if not store.pool_exists(connection, pool_id):
        raise errors.NotFound("pool", pool_id)


def _hold(connection: sa.Connection, stack_id: str, etag: str) -> StackSnapshot:
    """The stack, which nobody else changes until this transaction ends."""
    store.hold(connection, [stack_id])
    stack = snapshot.load(connection, stack_id)
    if etag and etag != stack.etag:
        raise errors.StaleEtag("stack", stack_id)
    return stack


def _completed(wanted: stack_pb2.Stack, paths: Sequence[str], before: StackSnapshot) -> stack_pb2.Stack:
    """`wanted` with what its checks compare with, taken from the stack where it is not changed."""
    complete = stack_pb2.Stack()
    complete.CopyFrom(wanted)
    if "tool" not in paths:
        complete.tool = before.tool
    for name in ("custom_init", "custom_plan", "custom_apply"):
        if name not in paths:
            getattr(complete, name)[:] = getattr(before, name)
    return complete
