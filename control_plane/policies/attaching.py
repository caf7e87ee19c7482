"""Attaching policies to stacks by hand, and saying of both sides what applies and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa

from control_plane import clock, errors
from control_plane.audit import events
from control_plane.clock import to_timestamp
from control_plane.identity.principal import Principal
from control_plane.policies import attached, records, store
from control_plane.policies.attached import Reason
from control_plane.policies.catalog import held
from control_plane.policies.messages import to_policy
from control_plane.stacks import snapshot
from control_plane.stacks.access import Access
from control_plane.stacks.snapshot import StackSnapshot
from control_plane.storage.database import Database
from interlock.v1 import policy_pb2
from policies.workbench.kinds import Kind

# One call looks at so many stacks at most, whether the policy applies to them or not.
_BATCH = 500


class Attachments:
    """`on_change` is called after each change."""

    def __init__(self, db: Database, access: Access, *, on_change: Callable[[], None]) -> None:
        self._db = db
        self._access = access
        self._on_change = on_change

    async def attach(
        self, principal: Principal, policy_id: str, stack_id: str, *, shadow: bool
    ) -> policy_pb2.Policy:
        """
        Raises:
            NotFound: the policy or the stack.
            InvalidField: it is a login policy.
        """
        principal.require_admin("attach policies")

        def unit(tx: sa.Connection) -> policy_pb2.Policy:
            row = held(tx, policy_id, "")
            if Kind(row.kind) is Kind.LOGIN:
                raise errors.InvalidField(
                    "policy_id",
                    "login policies are global: they count for every login without being attached",
                )
            if not store.stack_exists(tx, stack_id):
                raise errors.NotFound("stack", stack_id)
            if store.attach(tx, policy_id, stack_id, shadow=shadow, attached_at=clock.now_us()):
                _record(tx, principal, "policy.attached", policy_id, stack_id, {"shadow": shadow})
            return to_policy(row, store.attached_stacks(tx, policy_id))

        policy = await self._db.write(unit)
        self._on_change()
        return policy

    async def detach(self, principal: Principal, policy_id: str, stack_id: str) -> policy_pb2.Policy:
        """Raises NotFound where it is not attached by hand."""
        principal.require_admin("detach policies")

        def unit(tx: sa.Connection) -> policy_pb2.Policy:
            row = held(tx, policy_id, "")
            if not store.detach(tx, policy_id, stack_id):
                raise errors.NotFound("attachment", f"{policy_id}/{stack_id}")
            _record(tx, principal, "policy.detached", policy_id, stack_id, {})
            return to_policy(row, store.attached_stacks(tx, policy_id))

        policy = await self._db.write(unit)
        self._on_change()
        return policy

    async def of_stack(self, stack: StackSnapshot) -> list[policy_pb2.AttachedPolicy]:
        """Every policy that applies, by id, with why."""

        def unit(tx: sa.Connection) -> list[policy_pb2.AttachedPolicy]:
            applied = attached.load(tx).applied(stack.id, stack.labels)
            rows = {row.id: row for row in store.find_many(tx, [each.policy.id for each in applied])}
            return [
                policy_pb2.AttachedPolicy(
                    policy=to_policy(
                        rows[each.policy.id], store.attached_stacks(tx, each.policy.id), with_body=False
                    ),
                    shadow=each.shadow,
                    reasons=_reasons(each.reasons),
                )
                for each in applied
            ]

        return await self._db.read(unit)

    async def of_policy(
        self, principal: Principal, policy_id: str, after_id: str, at_most: int
    ) -> tuple[list[policy_pb2.PolicyStack], str]:
        """Stacks by id that the caller may read, and the last id that was looked at: empty at the end."""
        index, batch = await self._db.read(partial(_index_and_stacks, policy_id, after_id))
        found: list[policy_pb2.PolicyStack] = []
        applied = {stack.id: _applied_to(index, policy_id, stack) for stack in batch}
        readable = await self._access.only_readable(
            principal, [stack for stack in batch if applied[stack.id] is not None]
        )
        for stack in readable:
            here = applied[stack.id]
            assert here is not None
            found.append(
                policy_pb2.PolicyStack(
                    stack_id=stack.id,
                    stack_name=stack.name,
                    shadow=here.shadow,
                    reasons=_reasons(here.reasons),
                )
            )
            if len(found) == at_most:
                return found, stack.id
        return found, batch[-1].id if len(batch) == _BATCH else ""


def _index_and_stacks(
    policy_id: str, after_id: str, tx: sa.Connection
) -> tuple[attached.AttachedPolicies, list[StackSnapshot]]:
    if store.find(tx, policy_id) is None:
        raise errors.NotFound("policy", policy_id)
    return attached.load(tx), snapshot.load_page(tx, after_id, _BATCH)


def _applied_to(
    index: attached.AttachedPolicies, policy_id: str, stack: StackSnapshot
) -> attached.Applied | None:
    applied = index.applied(stack.id, stack.labels)
    return next((each for each in applied if each.policy.id == policy_id), None)


def _reasons(reasons: Sequence[Reason]) -> list[policy_pb2.AttachmentReason]:
    return [
        policy_pb2.AttachmentReason(label=reason.label)
        if reason.label
        else policy_pb2.AttachmentReason(attach_time=to_timestamp(reason.attached_at))
        for reason in reasons
    ]


def _record(
    tx: sa.Connection,
    principal: Principal,
    action: str,
    policy_id: str,
    stack_id: str,
    details: dict[str, Any],
) -> None:
    records.bump_policies_version(tx)
    events.record(tx, principal, action, "policy", policy_id, stack_id=stack_id, details=details)
