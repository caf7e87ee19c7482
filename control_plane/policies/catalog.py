"""The policies of this installation: made, changed, attached. A change is checked, committed, then loaded into OPA;
when the call returns, every decision that begins afterwards uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import sqlalchemy as sa
import structlog

from control_plane import clock, errors, ids
from control_plane.audit import events
from control_plane.identity.principal import Principal
from control_plane.policies import attached, records, store
from control_plane.policies.engine import LoadedPolicy, PolicyEngine
from control_plane.policies.errors import OpaUnavailable
from control_plane.policies.messages import dialect_of, kind_of, to_policy
from control_plane.storage import requests
from control_plane.storage.database import Database
from interlock.v1 import policy_pb2
from interlock.v1 import policy_service_pb2 as rpc
from policies.workbench.compiler import CompiledPolicy
from policies.workbench.kinds import Kind

CHANGEABLE = frozenset({"name", "description", "body", "labels"})
_DEFAULT_FILE = "policy.rego"

log = structlog.get_logger(__name__)


class PolicyCatalog:
    """Changes need an admin. This process makes one at a time, so that OPA gets them in the order of their commits."""

    def __init__(
        self, db: Database, engine: PolicyEngine, *, on_change: Callable[[], None] = lambda: None
    ) -> None:
        self._db = db
        self._engine = engine
        self._on_change = on_change
        self._one_change = asyncio.Lock()
        # Up to which version OPA has what other replicas changed.
        self._held_version = -1
        self._look = asyncio.Event()

    async def load(self) -> list[LoadedPolicy]:
        """Every policy as it is stored, for the engine's start."""
        rows = await self._db.read(store.modules)
        return [LoadedPolicy(row.id, row.revision, row.module) for row in rows]

    def look(self) -> None:
        """Another replica may have changed policies. Cheap; called from the event loop."""
        self._look.set()

    async def follow(self) -> None:
        """Brings OPA what other replicas change, until cancelled."""
        while True:
            await self._look.wait()
            self._look.clear()
            try:
                await self.catch_up()
            except errors.DomainError as error:
                log.warning("policy.not_followed", cause=error.message)

    async def catch_up(self) -> None:
        """Returns when OPA decides with what is stored.

        Raises:
            OpaUnavailable: OPA has it once it is back.
        """
        if await self._db.read(records.policies_version) == self._held_version:
            return
        async with self._one_change:
            version, rows = await self._db.read(lambda tx: (records.policies_version(tx), store.modules(tx)))
            await self._engine.hold([LoadedPolicy(row.id, row.revision, row.module) for row in rows])
            self._held_version = version

    async def create(self, principal: Principal, request: rpc.CreatePolicyRequest) -> policy_pb2.Policy:
        """
        Raises:
            PolicyRefused: the text is not acceptable.
            AlreadyExists: the id is taken.
            OpaUnavailable: nothing was changed.
        """
        principal.require_admin("create policies")
        wanted = request.policy
        _require_name(wanted)
        policy_id = wanted.id or ids.slug(wanted.name)
        if not policy_id:
            raise errors.InvalidField(
                "policy.id", f"cannot be made from the name {wanted.name!r}; choose one"
            )
        if kind_of(wanted.kind) is Kind.LOGIN:
            raise errors.InvalidField("policy.kind", "login policies are not asked yet")
        compiled = await self._check(kind_of(wanted.kind), wanted.body, request.file_name)

        def unit(tx: sa.Connection) -> sa.Row[Any]:
            known = requests.find(tx, principal.id, "CreatePolicy", request.request_id, request)
            if known is not None:
                return _found(tx, known)
            if store.find(tx, policy_id) is not None:
                raise errors.AlreadyExists("policy", policy_id)
            _insert(tx, principal, policy_id, wanted, compiled)
            events.record(
                tx, principal, "policy.created", "policy", policy_id,
                details={"name": wanted.name, "kind": compiled.kind.value, "labels": list(wanted.labels)},
            )  # fmt: skip
            requests.remember(tx, principal.id, "CreatePolicy", request.request_id, request, policy_id)
            return _found(tx, policy_id)

        async with self._one_change:
            await self._engine.ensure_available()
            row = await self._db.write(unit)
            await _brought(row.id, self._engine.put(LoadedPolicy(row.id, row.revision, row.module)))
        self._on_change()
        return await self._message(row)

    async def update(self, principal: Principal, request: rpc.UpdatePolicyRequest) -> policy_pb2.Policy:
        """
        Raises:
            PolicyRefused, NotFound, StaleEtag, OpaUnavailable: nothing was changed.
        """
        principal.require_admin("change policies")
        wanted, paths = request.policy, list(request.update_mask.paths)
        _check_mask(paths)
        if "name" in paths:
            _require_name(wanted)
        before = await self._db.read(lambda tx: _found(tx, wanted.id))
        compiled = None
        if "body" in paths:
            compiled = await self._check(Kind(before.kind), wanted.body, request.file_name)

        def unit(tx: sa.Connection) -> sa.Row[Any]:
            row = _held(tx, wanted.id, wanted.etag)
            _change(tx, principal, row, wanted, paths, compiled)
            events.record(
                tx, principal, "policy.updated", "policy", row.id, details={"fields": sorted(set(paths))}
            )
            return _found(tx, row.id)

        async with self._one_change:
            if compiled is not None:
                await self._engine.ensure_available()
            row = await self._db.write(unit)
            if compiled is not None:
                await _brought(row.id, self._engine.put(LoadedPolicy(row.id, row.revision, row.module)))
        self._on_change()
        return await self._message(row)

    async def delete(self, principal: Principal, policy_id: str, etag: str) -> None:
        """Raises NotFound or StaleEtag."""
        principal.require_admin("delete policies")

        def unit(tx: sa.Connection) -> None:
            _held(tx, policy_id, etag)
            store.delete(tx, policy_id)
            records.bump_policies_version(tx)
            events.record(tx, principal, "policy.deleted", "policy", policy_id)

        async with self._one_change:
            await self._db.write(unit)
            await _brought(policy_id, self._engine.remove(policy_id))
        self._on_change()

    async def attach(self, principal: Principal, policy_id: str, stack_id: str) -> policy_pb2.Policy:
        """Raises NotFound for the policy or the stack."""
        principal.require_admin("attach policies")

        def unit(tx: sa.Connection) -> sa.Row[Any]:
            row = _held(tx, policy_id, "")
            if not store.stack_exists(tx, stack_id):
                raise errors.NotFound("stack", stack_id)
            if stack_id not in store.attached_stacks(tx, policy_id):
                store.attach(tx, policy_id, stack_id, clock.now_us())
                _attachment_changed(tx, principal, "policy.attached", policy_id, stack_id)
            return row

        row = await self._db.write(unit)
        self._on_change()
        return await self._message(row)

    async def detach(self, principal: Principal, policy_id: str, stack_id: str) -> policy_pb2.Policy:
        """Raises NotFound where it is not attached by hand."""
        principal.require_admin("detach policies")

        def unit(tx: sa.Connection) -> sa.Row[Any]:
            row = _held(tx, policy_id, "")
            if not store.detach(tx, policy_id, stack_id):
                raise errors.NotFound("attachment", f"{policy_id}/{stack_id}")
            _attachment_changed(tx, principal, "policy.detached", policy_id, stack_id)
            return row

        row = await self._db.write(unit)
        self._on_change()
        return await self._message(row)

    async def get(self, policy_id: str) -> policy_pb2.Policy:
        return await self._message(await self._db.read(lambda tx: _found(tx, policy_id)))

    async def list(
        self, request: rpc.ListPoliciesRequest, after_id: str, at_most: int, labels: Collection[str] | None
    ) -> list[policy_pb2.Policy]:
        """By id, without bodies. `labels` are those of the stack that the request names."""

        def unit(tx: sa.Connection) -> list[policy_pb2.Policy]:
            among = None if labels is None else attached.load(tx).ids(request.stack_id, labels)
            kind = kind_of(request.kind).value if request.kind else ""
            rows = store.page(tx, after_id, at_most, kind=kind, among=among)
            return [to_policy(row, store.attached_stacks(tx, row.id), with_body=False) for row in rows]

        return await self._db.read(unit)

    async def _check(self, kind: Kind, text: str, file_name: str) -> CompiledPolicy:
        return await self._engine.check(kind, text, file_name or _DEFAULT_FILE)

    async def _message(self, row: sa.Row[Any]) -> policy_pb2.Policy:
        stacks = await self._db.read(lambda tx: store.attached_stacks(tx, row.id))
        return to_policy(row, stacks)


async def _brought(policy_id: str, change: Awaitable[None]) -> None:
    """Brings OPA a change that is committed. An OPA that died meanwhile has it once it is back, and the answer to
    who needs it is no until then: so this is no failure of the change."""
    try:
        await change
    except OpaUnavailable as error:
        log.warning("policy.opa_has_it_later", policy_id=policy_id, cause=error.cause)


def _found(tx: sa.Connection, policy_id: str) -> sa.Row[Any]:
    row = store.find(tx, policy_id)
    if row is None:
        raise errors.NotFound("policy", policy_id)
    return row


def _held(tx: sa.Connection, policy_id: str, etag: str) -> sa.Row[Any]:
    row = store.find_to_change(tx, policy_id)
    if row is None:
        raise errors.NotFound("policy", policy_id)
    if etag and etag != str(row.version):
        raise errors.StaleEtag("policy", policy_id)
    return row


def _require_name(policy: policy_pb2.Policy) -> None:
    if not policy.name:
        raise errors.InvalidField("policy.name", "is needed")


def _check_mask(paths: Sequence[str]) -> None:
    if unknown := sorted(set(paths) - CHANGEABLE):
        raise errors.InvalidField(
            "update_mask",
            f"{', '.join(unknown)} cannot be changed; choose of {', '.join(sorted(CHANGEABLE))}",
        )
    if not paths:
        raise errors.InvalidField("update_mask", f"names nothing; choose of {', '.join(sorted(CHANGEABLE))}")


def _insert(
    tx: sa.Connection, author: Principal, policy_id: str, wanted: policy_pb2.Policy, compiled: CompiledPolicy
) -> None:
    now = clock.now_us()
    # A policy that was deleted and made anew goes on counting: decisions name revisions.
    revision = store.last_revision(tx, policy_id) + 1
    store.insert(
        tx,
        {
            "id": policy_id,
            "name": wanted.name,
            "description": wanted.description,
            "kind": compiled.kind.value,
            "body": wanted.body,
            "module": compiled.module,
            "rego_version": dialect_of(compiled.rego_version),
            "labels": list(wanted.labels),
            "revision": revision,
            "version": revision,
            "created_at": now,
            "updated_at": now,
        },
    )
    _record_revision(tx, author, policy_id, revision, wanted.body)
    records.bump_policies_version(tx)


def _change(
    tx: sa.Connection,
    author: Principal,
    row: sa.Row[Any],
    wanted: policy_pb2.Policy,
    paths: Collection[str],
    compiled: CompiledPolicy | None,
) -> None:
    columns: dict[str, object] = {"updated_at": clock.now_us()}
    columns |= {path: getattr(wanted, path) for path in paths if path in ("name", "description")}
    if "labels" in paths:
        columns["labels"] = list(wanted.labels)
    if compiled is not None:
        revision = row.revision + 1
        columns |= {
            "body": wanted.body,
            "module": compiled.module,
            "rego_version": dialect_of(compiled.rego_version),
            "revision": revision,
        }
        _record_revision(tx, author, row.id, revision, wanted.body)
    store.change(tx, row.id, **columns)
    records.bump_policies_version(tx)


def _record_revision(tx: sa.Connection, author: Principal, policy_id: str, revision: int, body: str) -> None:
    store.insert_revision(
        tx,
        policy_id,
        revision,
        body=body,
        author=author.to_caller().SerializeToString(deterministic=True),
        created_at=clock.now_us(),
    )


def _attachment_changed(
    tx: sa.Connection, principal: Principal, action: str, policy_id: str, stack_id: str
) -> None:
    records.bump_policies_version(tx)
    events.record(tx, principal, action, "policy", policy_id, stack_id=stack_id)
