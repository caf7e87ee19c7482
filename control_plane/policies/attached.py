"""Which policies apply to a stack: those attached by hand, and those whose labels attach them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from control_plane.policies import records
from control_plane.policies.combine import PolicyRef
from control_plane.policies.quarantine import reason as quarantine_reason
from control_plane.storage.database import Database
from control_plane.storage.tables import policies, policy_attachments
from policies.workbench.kinds import Kind

AUTOATTACH = "autoattach:"
# As `autoattach:`, in shadow mode: evaluated and recorded, and never counted.
AUTOATTACH_SHADOW = "autoattach-shadow:"
EVERYWHERE = "*"

_POLICIES = sa.select(
    policies.c.id,
    policies.c.name,
    policies.c.kind,
    policies.c.revision,
    policies.c.labels,
    policies.c.overruns,
    policies.c.quarantined_at,
    policies.c.quarantine_cause,
).order_by(policies.c.id)
_ATTACHMENTS = sa.select(
    policy_attachments.c.policy_id,
    policy_attachments.c.stack_id,
    policy_attachments.c.shadow,
    policy_attachments.c.attached_at,
)


@dataclass(frozen=True, order=True)
class Reason:
    """Why a policy applies: by hand since a time (Unix microseconds), else by a label of the policy."""

    label: str = ""
    attached_at: int = 0


@dataclass(frozen=True)
class Applied:
    """A policy that applies to a stack. In `shadow` mode it never counts; where it is attached both ways, it does."""

    policy: PolicyRef
    kind: Kind
    shadow: bool
    reasons: tuple[Reason, ...]


class AttachedPolicies:
    """All policies and attachments as of one version; built once per version, asked for every decision."""

    def __init__(
        self,
        version: int,
        rows: Iterable[tuple[PolicyRef, Kind, Collection[str]]],
        attachments: Iterable[tuple[str, str, bool, int]],
    ) -> None:
        self.version = version
        self._refs: dict[str, tuple[Kind, PolicyRef]] = {}
        # By label and by stack: policy, whether in shadow mode, and why.
        self._by_label: defaultdict[str, list[tuple[str, bool, Reason]]] = defaultdict(list)
        self._by_stack: defaultdict[str, list[tuple[str, bool, Reason]]] = defaultdict(list)
        for policy, kind, labels in rows:
            self._refs[policy.id] = (kind, policy)
            for label in labels:
                for prefix, shadow in ((AUTOATTACH, False), (AUTOATTACH_SHADOW, True)):
                    if label.startswith(prefix):
                        entry = (policy.id, shadow, Reason(label=label))
                        self._by_label[label.removeprefix(prefix)].append(entry)
        for policy_id, stack_id, shadow, attached_at in attachments:
            self._by_stack[stack_id].append((policy_id, shadow, Reason(attached_at=attached_at)))

    def applied(self, stack_id: str, labels: Iterable[str]) -> list[Applied]:
        """Every policy that applies to a stack with these labels, by id, with why. Login policies are global."""
        found: defaultdict[str, list[tuple[bool, Reason]]] = defaultdict(list)
        by_label = (self._by_label.get(label, ()) for label in (EVERYWHERE, *labels))
        for policy_id, shadow, reason in itertools.chain(self._by_stack.get(stack_id, ()), *by_label):
            found[policy_id].append((shadow, reason))
        return [
            self._applied(policy_id, ways)
            for policy_id, ways in sorted(found.items())
            if self._refs[policy_id][0] is not Kind.LOGIN
        ]

    def refs(
        self, stack_id: str, labels: Iterable[str], kind: Kind, *, shadow: bool = False
    ) -> list[PolicyRef]:
        """Those of one kind that count, by id; with `shadow` those that only would."""
        return [
            each.policy
            for each in self.applied(stack_id, labels)
            if each.kind is kind and each.shadow is shadow
        ]

    def login(self, *, shadow: bool = False) -> list[PolicyRef]:
        """Every login policy that counts; with `shadow` those labelled to be in shadow mode everywhere."""
        shadows = {policy_id for policy_id, is_shadow, _ in self._by_label.get(EVERYWHERE, ()) if is_shadow}
        return [
            ref for kind, ref in self._refs.values() if kind is Kind.LOGIN and (ref.id in shadows) is shadow
        ]

    def _applied(self, policy_id: str, ways: Sequence[tuple[bool, Reason]]) -> Applied:
        kind, ref = self._refs[policy_id]
        counts = any(not shadow for shadow, _ in ways)
        reasons = sorted(reason for shadow, reason in ways if shadow is not counts)
        return Applied(ref, kind, not counts, tuple(reasons))


class AttachmentIndex:
    """The attachments as of the version asked for: read again only when policies or attachments changed."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._attached = AttachedPolicies(-1, (), ())
        # Called when the database has a newer set than was asked about last: OPA may have to be given it.
        self.on_newer: Callable[[], None] = lambda: None

    async def current(self) -> AttachedPolicies:
        return await self.as_of(await self._db.read(records.policies_version))

    async def as_of(self, version: int) -> AttachedPolicies:
        """Of this version, or of a newer one."""
        if version != self._attached.version:
            self._attached = await self._db.read(load)
            self.on_newer()
        return self._attached


def load(connection: sa.Connection) -> AttachedPolicies:
    """Policies, attachments and their version, as of this transaction."""
    version = records.policies_version(connection)
    rows = [(_ref(row), Kind(row.kind), row.labels) for row in connection.execute(_POLICIES)]
    attachments = [
        (row.policy_id, row.stack_id, row.shadow, row.attached_at) for row in connection.execute(_ATTACHMENTS)
    ]
    return AttachedPolicies(version, rows, attachments)


def _ref(row: Any) -> PolicyRef:
    since = row.quarantined_at
    quarantine = "" if since is None else quarantine_reason(row.id, since, row.quarantine_cause)
    return PolicyRef(row.id, row.name, row.revision, row.overruns, quarantine)
