"""Pools of one control plane, on a clock that only a test moves, with streams that no runner reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import sqlalchemy as sa

from control_plane.identity.failure_limit import FailureLimit
from control_plane.identity.principal import Principal
from control_plane.keys import MasterKey
from control_plane.paging import PageTokens
from control_plane.pools.admission import Admission
from control_plane.pools.connections import Connections, RunnerConnection
from control_plane.pools.rules import Pools
from control_plane.pools.runners import Runners
from control_plane.pools.servicer import PoolServicer
from control_plane.replicas.registry import Registry
from control_plane.storage.database import Database
from control_plane.storage.tables import audit_events, stacks
from interlock.v1 import pool_pb2
from interlock.v1 import pool_service_pb2 as rpc
from interlock.v1.runner_service_pb2 import Hello

ADMIN = Principal(id="key_admin", login="ada", name="Ada", admin=True, remote_ip="192.0.2.1")
READER = Principal(id="key_reader", login="rob", name="Rob")
CONTEXT = cast("Any", None)


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
        self.connections = Connections()
        self.runners_may_move = True
        self.failures = FailureLimit(monotonic=lambda: self.clock.now / 1_000_000)
        self.admission = Admission(self.db, failures=self.failures, now_us=self.clock)
        self.runners = Runners(self.db, self.connections, Registry(self.db), now_us=self.clock)
        pools = Pools(self.db, self.connections, now_us=self.clock)
        page_tokens = PageTokens(MasterKey(b"k" * 32))
        self.servicer = PoolServicer(pools, self.runners, page_tokens)

    async def create(self, name: str = "Blue", request_id: str = "", **fields: Any) -> pool_pb2.Pool:
        pool = pool_pb2.Pool(name=name, **fields)
        return await self.servicer.CreatePool(
            rpc.CreatePoolRequest(pool=pool, request_id=request_id), CONTEXT
        )

    async def create_token(
        self, pool_id: str = "public", name: str = "", request_id: str = ""
    ) -> rpc.CreatePoolTokenResponse:
        request = rpc.CreatePoolTokenRequest(pool_id=pool_id, name=name, request_id=request_id)
        return await self.servicer.CreatePoolToken(request, CONTEXT)

    async def revoke(self, token_id: str) -> pool_pb2.PoolToken:
        return await self.servicer.RevokePoolToken(
            rpc.RevokePoolTokenRequest(pool_token_id=token_id), CONTEXT
        )

    async def list_runners(self, **fields: Any) -> list[pool_pb2.Runner]:
        return list((await self.servicer.ListRunners(rpc.ListRunnersRequest(**fields), CONTEXT)).runners)

    async def connect(self, secret: str, said: Hello) -> RunnerConnection:
        """As RunnerService.Connect does."""
        token = await self.admission.authenticate(secret)
        await self.admission.record(said, token, may_move=lambda _: self.runners_may_move)
        connection = RunnerConnection(
            runner_id=said.runner_id,
            pool_id=token.pool_id,
            token_id=token.token_id,
            name=said.name,
            version=said.version,
            capacity=said.capacity,
            boot_id=said.boot_id,
            machine_id=said.machine_id,
            last_seen_us=self.clock.now,
            is_welcomed=True,
        )
        self.connections.add(connection)
        return connection

    async def audited(self, action: str) -> list[sa.Row[tuple[object, ...]]]:
        statement = sa.select(audit_events).where(audit_events.c.action == action).order_by(audit_events.c.id)
        return list(await self.db.read(lambda connection: connection.execute(statement).all()))

    async def add_stack(self, stack_id: str, pool_id: str, *, deleted_at: int | None = None) -> None:
        row = {
            "id": stack_id, "name": stack_id, "description": "", "labels": [], "source_kind": "git", "tool": 1,
            "custom_init": [], "image": "x", "pull_policy": 1, "pool_id": pool_id, "hooks": b"",
            "administrative": False, "version": 1, "created_at": 1, "updated_at": 1, "deleted_at": deleted_at,
        }  # fmt: skip
        await self.db.write(lambda connection: connection.execute(sa.insert(stacks), row))


def hello(number: int = 1, **fields: Any) -> Hello:
    said = {"name": f"r{number}", "version": "0.1", "capacity": 2, "boot_id": "b", **fields}
    return Hello(runner_id=f"rnr_{number:026}", **said)
