"""A replica as far as policies go: a real OPA, a database, the catalog, what is attached, and the quarantine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from google.protobuf.field_mask_pb2 import FieldMask

from control_plane.identity.principal import Principal
from control_plane.policies.attached import AttachmentIndex
from control_plane.policies.catalog import PolicyCatalog
from control_plane.policies.combine import PolicyRef
from control_plane.policies.errors import EvaluationFailed, OpaUnavailable
from control_plane.policies.quarantine import Quarantine
from control_plane.storage.database import Database
from control_plane.storage.tables import audit_events
from interlock.v1 import policy_pb2
from interlock.v1 import policy_service_pb2 as rpc
from policies.workbench.compiler import Compiler
from policies.workbench.kinds import Kind
from tests.integration.policies.house import House

ADMIN = Principal(id="key_1", login="root", name="Root", admin=True)
# Comes to no end, unless the command is `quick`.
ENDLESS = """package a

ns := numbers.range(1, 200)

deny contains "x" if {
	request.command != "quick"
	some a in ns
	some b in ns
	some c in ns
	some d in ns
	some e in ns
	a + b + c + d + e < 0
}
"""
# Most is known after a second. A machine that everybody wants tells it later.
WITHIN_S = 180


@dataclass
class Keep:
    """A replica as far as policies go."""

    house: House
    db: Database
    catalog: PolicyCatalog
    index: AttachmentIndex
    quarantine: Quarantine

    async def create(self, body: str, label: str = "guarded", kind: Kind = Kind.TASK) -> policy_pb2.Policy:
        wanted = policy_pb2.Policy(
            name=f"on {label}",
            kind=policy_pb2.PolicyKind.Value(f"POLICY_KIND_{kind.name}"),
            body=body,
            labels=[f"autoattach:{label}"],
        )
        return await self.catalog.create(ADMIN, rpc.CreatePolicyRequest(policy=wanted))

    async def update(self, policy: policy_pb2.Policy, field: str) -> policy_pb2.Policy:
        request = rpc.UpdatePolicyRequest(policy=policy, update_mask=FieldMask(paths=[field]))
        return await self.catalog.update(ADMIN, request)

    async def policies(self, label: str = "guarded", kind: Kind = Kind.TASK) -> list[PolicyRef]:
        return (await self.index.current()).refs("any", [label], kind)

    async def refused(self, label: str = "guarded", command: str = "ls") -> EvaluationFailed:
        with pytest.raises(EvaluationFailed) as caught:
            await self.house.task(*await self.policies(label), command=command)
        return caught.value

    async def quarantined(self, label: str = "guarded") -> EvaluationFailed:
        """Decides until it is. On a machine that is too slow to tell whose fault it is, that takes more than three."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                with contextlib.suppress(OpaUnavailable):
                    failure = await self.refused(label)
                    if "quarantined since" in failure.cause:
                        return failure

    async def noted(self, times: int) -> None:
        """Its policy was found to have overrun so often."""
        for _ in range(times):
            [policy] = await self.policies()
            await self.quarantine.overran(policy, "it takes more than 0.3 s")

    async def actions(self) -> list[str]:
        """What the audit log has about policies that overran."""
        rows = await self.db.read(
            lambda tx: (
                tx.execute(sa.select(audit_events.c.action).order_by(audit_events.c.id)).scalars().all()
            )
        )
        return [action for action in rows if action not in ("policy.created", "policy.updated")]


@contextlib.asynccontextmanager
async def replica(db: Database, opa_path: Path, compiler: Compiler, **settings: Any) -> AsyncIterator[Keep]:
    async with House.opened(opa_path, compiler, **{"deadline_s": 0.3, **settings}) as house:
        quarantine = Quarantine(db, on_change=lambda: None)
        house.engine.report_to(quarantine)
        catalog = PolicyCatalog(db, house.engine)
        await catalog.catch_up()
        yield Keep(house, db, catalog, AttachmentIndex(db), quarantine)
