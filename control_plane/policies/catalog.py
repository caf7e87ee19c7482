"""The policies of this installation: made, changed, rolled back, deleted. A change is checked, committed, then loaded
into OPA; when the call returns, every decision that begins afterwards uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import sqlalchemy as sa
import structlog

from control_plane import clock, errors, ids
from control_plane.audit import events
from control_plane.identity.principal import Principal
from control_plane.policies import attached, records, revisions, store
from control_plane.policies.engine import LoadedPolicy, PolicyEngine
from control_plane.policies.errors import OpaUnavailable
from control_plane.policies.messages import dialect_of, kind_of, to_policy, with_warnings
from control_plane.policies.revisions import Content
from control_plane.storage import requests
from control_plane.storage.database import Database
from interlock.v1 import policy_pb2
from interlock.v1 import policy_service_pb2 as rpc
from policies.workbench.compiler import CompiledPolicy
from policies.workbench.kinds import Kind

CHANGEABLE = ("name", "description", "body", "labels")
_DEFAULT_FILE = "policy.rego"
_ROLLBACK = "RollbackPolicy"

log = structlog.get_logger(__name__)


class PolicyCatalog:
    """Changes need an admin. This process makes one at a time, so that OPA gets them in the order of their commits.

    `on_change` is called after each change, when decisions use it.
    """

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
        compiled = await self._check(kind_of(wanted.kind), request)

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

        return with_warnings(await self._changed(unit), compiled)

    async def update(self, principal: Principal, request: rpc.UpdatePolicyRequest) -> policy_pb2.Policy:
        """
        Raises:
            PolicyRefused, NotFound, StaleEtag, OpaUnavailable: nothing was changed.
        """
        principal.require_admin("change policies")
        wanted, paths = request.policy, sorted(set(request.update_mask.paths))
        _check_mask(paths)
        if "name" in paths:
            _require_name(wanted)
        before = await self._db.read(lambda tx: _found(tx, wanted.id))
        compiled = None
        if request.tests and "body" not in paths:
            raise errors.InvalidField("tests", "are of a new text; name body in update_mask")
        if "body" in paths:
            compiled = await self._check(Kind(before.kind), request)

        def unit(tx: sa.Connection) -> sa.Row[Any]:
            row = held(tx, wanted.id, wanted.etag)
            content = revisions.content_of(row).changed_to(revisions.content_of(wanted), paths)
            revision = _change(tx, principal, row, content, compiled, f"changed {', '.join(paths)}")
            events.record(
                tx, principal, "policy.updated", "policy", row.id, details={"fields": paths, "revision": revision}
            )  # fmt: skip
            return _found(tx, row.id)

        return with_warnings(await self._changed(unit), compiled)

    async def rollback(self, principal: Principal, request: rpc.RollbackPolicyRequest) -> policy_pb2.Policy:
        """A new revision with all that an earlier one had.

        Raises:
            NotFound: there is no such revision of it.
            InvalidField: it was another policy's of the same id.
            PolicyRefused, StaleEtag, OpaUnavailable: nothing was changed.
        """
        principal.require_admin("roll policies back")
        earlier, before = await self._db.read(
            lambda tx: (
                revisions.find(tx, request.policy_id, request.revision), _found(tx, request.policy_id)
            )
        )  # fmt: skip
        if earlier.created_at < before.created_at:
            raise errors.InvalidField(
                "revision",
                f"{request.revision} was of another policy {request.policy_id!r}, which was deleted; "
                f"create a policy from its text instead",
            )
        compiled = await self._engine.check(Kind(before.kind), earlier.body)

        def unit(tx: sa.Connection) -> sa.Row[Any]:
            if requests.find(tx, principal.id, _ROLLBACK, request.request_id, request) is not None:
                return _found(tx, request.policy_id)
            row = held(tx, request.policy_id, request.etag)
            done = f"rolled back to revision {request.revision}"
            revision = _change(tx, principal, row, revisions.content_of(earlier), compiled, done)
            events.record(
                tx, principal, "policy.rolled_back", "policy", row.id,
                details={"to": request.revision, "revision": revision},
            )  # fmt: skip
            requests.remember(tx, principal.id, _ROLLBACK, request.request_id, request, row.id)
            return _found(tx, row.id)

        return await self._changed(unit)

    async def delete(self, principal: Principal, policy_id: str, etag: str) -> None:
        """Raises NotFound or StaleEtag."""
        principal.require_admin("delete policies")

        def unit(tx: sa.Connection) -> None:
            held(tx, policy_id, etag)
            store.delete(tx, policy_id)
            records.bump_policies_version(tx)
            events.record(tx, principal, "policy.deleted", "policy", policy_id)

        async with self._one_change:
            await self._db.write(unit)
            await _brought(policy_id, self._engine.remove(policy_id))
        self._on_change()

    async def get(self, policy_id: str) -> policy_pb2.Policy:
        return await self._message(await self._db.read(lambda tx: _found(tx, policy_id)))

    async def list(
        self, request: rpc.ListPoliciesRequest, after_id: str, at_most: int, labels: Sequence[str] | None
    ) -> list[policy_pb2.Policy]:
        """By id, without bodies. `labels` are those of the stack that the request names."""

        def unit(tx: sa.Connection) -> list[policy_pb2.Policy]:
            among = None
            if labels is not None:
                applied = attached.load(tx).applied(request.stack_id, labels)
                among = [each.policy.id for each in applied]
            kind = kind_of(request.kind).value if request.kind else ""
            rows = store.page(tx, after_id, at_most, kind=kind, among=among)
            return [to_policy(row, store.attached_stacks(tx, row.id), with_body=False) for row in rows]

        return await self._db.read(unit)

    async def _changed(self, unit: Callable[[sa.Connection], sa.Row[Any]]) -> policy_pb2.Policy:
        """Commits a change that gives a policy its next revision, and brings it to OPA."""
        async with self._one_change:
            await self._engine.ensure_available()
            row = await self._db.write(unit)
            await _brought(row.id, self._engine.put(LoadedPolicy(row.id, row.revision, row.module)))
        self._on_change()
        return await self._message(row)

    async def _check(
        self, kind: Kind, request: rpc.CreatePolicyRequest | rpc.UpdatePolicyRequest
    ) -> CompiledPolicy:
        file, tests = request.file_name or _DEFAULT_FILE, [test.file_name for test in request.tests]
        if repeated := {name for name in [file, *tests] if [file, *tests].count(name) > 1}:
            raise errors.InvalidField("tests", f"has {min(repeated)} twice")
        bodies = {test.file_name: test.body for test in request.tests}
        return await self._engine.check(kind, request.policy.body, file, tests=bodies, is_linted=True)

    async def _message(self, row: sa.Row[Any]) -> policy_pb2.Policy:
        stacks = await self._db.read(lambda tx: store.attached_stacks(tx, row.id))
        return to_policy(row, stacks)


def held(tx: sa.Connection, policy_id: str, etag: str) -> sa.Row[Any]:
    """The policy, to be changed in this transaction. Raises NotFound or StaleEtag."""
    row = store.find_to_change(tx, policy_id)
    if row is None:
        raise errors.NotFound("policy", policy_id)
    if etag and etag != str(row.version):
        raise errors.StaleEtag("policy", policy_id)
    return row


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


def _require_name(policy: policy_pb2.Policy) -> None:
    if not policy.name:
        raise errors.InvalidField("policy.name", "is needed")


def _check_mask(paths: Sequence[str]) -> None:
    choices = ", ".join(sorted(CHANGEABLE))
    if unknown := sorted(set(paths) - set(CHANGEABLE)):
        raise errors.InvalidField(
            "update_mask", f"{', '.join(unknown)} cannot be changed; choose of {choices}"
        )
    if not paths:
        raise errors.InvalidField("update_mask", f"names nothing; choose of {choices}")


def _insert(
    tx: sa.Connection, author: Principal, policy_id: str, wanted: policy_pb2.Policy, compiled: CompiledPolicy
) -> None:
    now = clock.now_us()
    content = revisions.content_of(wanted)
    # A policy that was deleted and made anew goes on counting: decisions name revisions.
    revision = revisions.last(tx, policy_id) + 1
    store.insert(
        tx,
        {
            "id": policy_id,
            **vars(content),
            "kind": compiled.kind.value,
            "module": compiled.module,
            "rego_version": dialect_of(compiled.rego_version),
            "revision": revision,
            "version": revision,
            "created_at": now,
            "updated_at": now,
        },
    )
    revisions.insert(tx, policy_id, revision, content, author=author, change="created", created_at=now)
    records.bump_policies_version(tx)


def _change(
    tx: sa.Connection,
    author: Principal,
    row: sa.Row[Any],
    content: Content,
    compiled: CompiledPolicy | None,
    done: str,
) -> int:
    """Returns the new revision."""
    now, revision = clock.now_us(), row.revision + 1
    columns: dict[str, object] = {**vars(content), "revision": revision, "updated_at": now}
    if compiled is not None:
        # A new text begins anew: what the old one did is not its doing.
        columns |= {
            "module": compiled.module,
            "rego_version": dialect_of(compiled.rego_version),
            "overruns": 0,
            "quarantined_at": None,
            "quarantine_cause": "",
        }
        if row.quarantined_at is not None:
            events.record(
                tx, author, "policy.released", "policy", row.id, details={"was": row.quarantine_cause, "by": done}
            )  # fmt: skip
    revisions.insert(tx, row.id, revision, content, author=author, change=done, created_at=now)
    store.change(tx, row.id, **columns)
    records.bump_policies_version(tx)
    return int(revision)
