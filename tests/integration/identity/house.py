"""The identity package of one control plane, on a clock that only a test moves."""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa

from control_plane.identity.api_key import ApiKey
from control_plane.identity.authenticator import Authenticator
from control_plane.identity.credentials import Credential
from control_plane.identity.failure_limit import FailureLimit
from control_plane.identity.principal import Principal
from control_plane.identity.rules import Draft, Keys
from control_plane.identity.servicer import IdentityServicer
from control_plane.identity.tokens import Tokens
from control_plane.keys import MasterKey
from control_plane.paging import PageTokens
from control_plane.storage.database import Database
from control_plane.storage.tables import audit_events
from interlock.v1.identity_service_pb2 import CreateApiKeyRequest

MASTER = MasterKey(b"k" * 32)
ADMIN = Principal(id="key_admin", login="ada", name="Ada", admin=True, remote_ip="192.0.2.1")


@dataclass
class Clock:
    now: int = 1_800_000_000_000_000

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)


@dataclass
class House:
    db: Database
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        tokens = Tokens(MASTER, now_us=self.clock)
        self.failures = FailureLimit(monotonic=lambda: self.clock.now / 1_000_000)
        self.authenticator = Authenticator(self.db, tokens, now_us=self.clock)
        self.keys = Keys(
            self.db,
            tokens=tokens,
            authenticator=self.authenticator,
            failures=self.failures,
            now_us=self.clock,
        )
        self.servicer = IdentityServicer(self.keys, PageTokens(MASTER))

    async def create(
        self,
        name: str = "Grace",
        *,
        login: str = "",
        admin: bool = False,
        expires_at: int | None = None,
        teams: tuple[str, ...] = (),
        caller: Principal = ADMIN,
    ) -> tuple[ApiKey, Credential]:
        draft = Draft(name=name, login=login, admin=admin, expires_at=expires_at, teams=teams)
        key, credential = await self.keys.create(caller, draft, request_id="", content=CreateApiKeyRequest())
        assert credential is not None
        return key, credential

    async def token(self, credential: Credential) -> str:
        return (await self.keys.exchange(ADMIN, credential)).access_token

    async def revoke(self, key_id: str) -> None:
        await self.keys.revoke(ADMIN, key_id)

    async def audited(self, action: str) -> list[sa.Row[tuple[object, ...]]]:
        statement = sa.select(audit_events).where(audit_events.c.action == action).order_by(audit_events.c.id)
        return list(await self.db.read(lambda connection: connection.execute(statement).all()))
