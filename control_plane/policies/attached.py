"""Which policies apply to a stack: those attached by hand, and those whose labels attach them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable

import sqlalchemy as sa

from control_plane.policies import records
from control_plane.policies.combine import PolicyRef
from control_plane.storage.database import Database
from control_plane.storage.tables import policies, policy_attachments
from policies.workbench.kinds import Kind

AUTOATTACH = "autoattach:"

_POLICIES = sa.select(
    policies.c.id, policies.c.name, policies.c.kind, policies.c.revision, policies.c.labels
).order_by(policies.c.id)
_ATTACHMENTS = sa.select(policy_attachments.c.policy_id, policy_attachments.c.stack_id)


class AttachedPolicies:
    """All policies and attachments as of one version; built once per version, asked for every decision."""

    def __init__(
        self,
        version: int,
        rows: Iterable[tuple[str, str, str, int, Collection[str]]],
        attachments: Iterable[tuple[str, str]],
    ) -> None:
        self.version = version
        self._refs: dict[str, tuple[Kind, PolicyRef]] = {}
        self._by_label: defaultdict[str, set[str]] = defaultdict(set)
        self._by_stack: defaultdict[str, set[str]] = defaultdict(set)
        for policy_id, name, kind, revision, labels in rows:
            self._refs[policy_id] = (Kind(kind), PolicyRef(policy_id, name, revision))
            for label in labels:
                if label.startswith(AUTOATTACH):
                    self._by_label[label.removeprefix(AUTOATTACH)].add(policy_id)
        for policy_id, stack_id in attachments:
            self._by_stack[stack_id].add(policy_id)

    def ids(self, stack_id: str, labels: Iterable[str]) -> list[str]:
        """Of all policies that apply to a stack with these labels, sorted."""
        found = set(self._by_stack.get(stack_id, ()))
        for label in ("*", *labels):
            found |= self._by_label.get(label, set())
        return sorted(found)

    def refs(self, stack_id: str, labels: Iterable[str], kind: Kind) -> list[PolicyRef]:
        """Those of one kind, by id."""
        return [
            ref
            for policy_kind, ref in (self._refs[policy_id] for policy_id in self.ids(stack_id, labels))
            if policy_kind is kind
        ]


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
    rows = [(row.id, row.name, row.kind, row.revision, row.labels) for row in connection.execute(_POLICIES)]
    attachments = [(row.policy_id, row.stack_id) for row in connection.execute(_ATTACHMENTS)]
    return AttachedPolicies(version, rows, attachments)
