"""The audit log of one control plane, and what somebody with the database's file could do to it."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from control_plane.audit import events
from control_plane.audit.rules import AuditLog, Verification
from control_plane.audit.sealer import LogSealer
from control_plane.audit.servicer import AuditServicer
from control_plane.identity.principal import Principal
from control_plane.keys import MasterKey
from control_plane.paging import PageTokens
from control_plane.storage.database import Database
from control_plane.storage.tables import audit_seals

ADMIN = Principal(id="key_admin", login="ada", name="Ada", teams=("ops",), admin=True, remote_ip="192.0.2.1")


@dataclass
class House:
    db: Database

    def __post_init__(self) -> None:
        self.log = AuditLog(self.db)
        self.sealer = LogSealer(self.db)
        self.servicer = AuditServicer(self.log, PageTokens(MasterKey(b"k" * 32)))

    async def record(
        self,
        action: str = "stack.locked",
        resource_id: str = "prod",
        *,
        caller: Principal = ADMIN,
        stack_id: str = "",
    ) -> str:
        return await self.db.write(
            lambda connection: events.record(
                connection, caller, action, "stack", resource_id, stack_id=stack_id
            )
        )

    async def sealed(self, count: int) -> list[str]:
        """Ids of so many new events, sealed in this order."""
        recorded = [await self.record(resource_id=f"s{number}") for number in range(count)]
        await self.sealer.seal_all()
        return recorded

    async def seals(self) -> list[sa.Row[tuple[object, ...]]]:
        statement = sa.select(audit_seals).order_by(audit_seals.c.sequence)
        return list(await self.db.read(lambda connection: connection.execute(statement).all()))

    async def execute(self, *statements: str) -> None:
        def unit(connection: sa.Connection) -> None:
            for statement in statements:
                connection.exec_driver_sql(statement)

        await self.db.write(unit)

    async def tamper(self, *statements: str) -> None:
        """As somebody does who owns the database: past the triggers."""
        if not self.db.is_sqlite:
            tables = ("audit_events", "audit_seals")
            await self.execute(
                *(f"ALTER TABLE {table} DISABLE TRIGGER USER" for table in tables),
                *(statement.replace("x'ff'", "'\\xff'::bytea") for statement in statements),
                *(f"ALTER TABLE {table} ENABLE TRIGGER USER" for table in tables),
            )
            return
        triggers = await self.db.read(
            lambda connection: (
                connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")
                .scalars()
                .all()
            )
        )
        await self.execute(*(f"DROP TRIGGER {name}" for name in triggers), *statements)

    async def verify(self) -> Verification:
        return await self.log.verify(ADMIN, None)
