"""PoolService: translates between messages and rules."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from control_plane import clock
from control_plane.identity import principal
from control_plane.paging import DEFAULT_PAGE_SIZE, PageTokens
from control_plane.pools.pool import Pool, PoolToken
from control_plane.pools.rules import Pools
from control_plane.pools.runners import Room, Runners, SeenRunner
from interlock.v1 import pool_pb2
from interlock.v1 import pool_service_pb2 as rpc
from interlock.v1.pool_service_pb2_grpc import PoolServiceServicer
from interlock.v1.runner_service_pb2 import RunnerStatus

Context = grpc.aio.ServicerContext[Any, Any]

_MINUTE_US = 60_000_000


class PoolServicer(PoolServiceServicer):
    def __init__(self, pools: Pools, runners: Runners, page_tokens: PageTokens) -> None:
        self._pools = pools
        self._runners = runners
        self._page_tokens = page_tokens

    async def CreatePool(self, request: rpc.CreatePoolRequest, context: Context) -> pool_pb2.Pool:
        pool = await self._pools.create(
            principal.current.get(), _draft(request.pool), request_id=request.request_id, content=request
        )
        return await self._one(pool)

    async def GetPool(self, request: rpc.GetPoolRequest, context: Context) -> pool_pb2.Pool:
        return await self._one(await self._pools.get(request.pool_id))

    async def ListPools(self, request: rpc.ListPoolsRequest, context: Context) -> rpc.ListPoolsResponse:
        size = request.page_size or DEFAULT_PAGE_SIZE
        pools = await self._pools.page(after=self._page_tokens.decode(request), limit=size + 1)
        shown = pools[:size]
        rooms = await self._runners.room([pool.id for pool in shown])
        return rpc.ListPoolsResponse(
            pools=[_pool(pool, rooms[pool.id]) for pool in shown],
            next_page_token=self._page_tokens.encode(request, shown[-1].id) if len(pools) > size else "",
        )

    async def UpdatePool(self, request: rpc.UpdatePoolRequest, context: Context) -> pool_pb2.Pool:
        pool = await self._pools.update(
            principal.current.get(), _draft(request.pool), set(request.update_mask.paths)
        )
        return await self._one(pool)

    async def DeletePool(self, request: rpc.DeletePoolRequest, context: Context) -> Empty:
        await self._pools.delete(principal.current.get(), request.pool_id)
        return Empty()

    async def CreatePoolToken(
        self, request: rpc.CreatePoolTokenRequest, context: Context
    ) -> rpc.CreatePoolTokenResponse:
        token, credential = await self._pools.create_token(
            principal.current.get(),
            request.pool_id,
            request.name,
            request_id=request.request_id,
            content=request,
        )
        return rpc.CreatePoolTokenResponse(
            pool_token=_token(token), secret=credential.text if credential else ""
        )

    async def ListPoolTokens(
        self, request: rpc.ListPoolTokensRequest, context: Context
    ) -> rpc.ListPoolTokensResponse:
        size = request.page_size or DEFAULT_PAGE_SIZE
        tokens = await self._pools.page_of_tokens(
            principal.current.get(),
            request.pool_id,
            before=self._page_tokens.decode(request),
            limit=size + 1,
        )
        shown = tokens[:size]
        return rpc.ListPoolTokensResponse(
            pool_tokens=[_token(token) for token in shown],
            next_page_token=self._page_tokens.encode(request, shown[-1].id) if len(tokens) > size else "",
        )

    async def RevokePoolToken(
        self, request: rpc.RevokePoolTokenRequest, context: Context
    ) -> pool_pb2.PoolToken:
        return _token(await self._pools.revoke_token(principal.current.get(), request.pool_token_id))

    async def ListRunners(self, request: rpc.ListRunnersRequest, context: Context) -> rpc.ListRunnersResponse:
        size = request.page_size or DEFAULT_PAGE_SIZE
        # A name has no NUL; the interceptor sees to it.
        name, _, runner_id = self._page_tokens.decode(request).partition("\0")
        runners = await self._runners.page(
            request.pool_id, after=(name, runner_id) if runner_id else None, limit=size + 1
        )
        shown = runners[:size]
        next_page_token = ""
        if len(runners) > size:
            last = shown[-1].known
            next_page_token = self._page_tokens.encode(request, f"{last.name}\0{last.id}")
        return rpc.ListRunnersResponse(
            runners=[_runner(runner) for runner in shown], next_page_token=next_page_token
        )

    async def _one(self, pool: Pool) -> pool_pb2.Pool:
        rooms = await self._runners.room([pool.id])
        return _pool(pool, rooms[pool.id])


def _pool(pool: Pool, room: Room) -> pool_pb2.Pool:
    return pool_pb2.Pool(
        id=pool.id,
        name=pool.name,
        public=pool.public,
        labels=pool.labels,
        container=pool.container,
        create_time=clock.to_timestamp(pool.created_at),
        connected_runners=room.connected_runners,
        free_capacity=room.free_capacity,
    )


def _draft(message: pool_pb2.Pool) -> Pool:
    return Pool(
        id=message.id,
        name=message.name,
        public=message.public,
        labels=tuple(message.labels),
        container=message.container,
        created_at=0,
    )


def _token(token: PoolToken) -> pool_pb2.PoolToken:
    message = pool_pb2.PoolToken(
        id=token.id,
        pool_id=token.pool_id,
        name=token.name,
        create_time=clock.to_timestamp(token.created_at),
    )
    if token.revoked_at is not None:
        message.revoke_time.CopyFrom(clock.to_timestamp(token.revoked_at))
    if token.last_used_at is not None:
        message.last_use_time.CopyFrom(
            clock.to_timestamp(token.last_used_at - token.last_used_at % _MINUTE_US)
        )
    return message


def _runner(seen: SeenRunner) -> pool_pb2.Runner:
    known, connection = seen.known, seen.connection
    message = pool_pb2.Runner(
        id=known.id,
        pool_id=known.pool_id,
        name=known.name,
        state=_state(_status(seen)),
        version=known.version,
        capacity=known.capacity,
        connect_time=clock.to_timestamp(known.connected_at),
        last_heartbeat_time=clock.to_timestamp(connection.last_seen_us if connection else known.last_seen_at),
    )
    if (status := _status(seen)) is not None:
        message.state_reason = status.reason
        message.active_run_ids.extend(seen.active_run_ids)
    return message


def _status(seen: SeenRunner) -> RunnerStatus | None:
    """None where it is connected to nobody."""
    found = seen.connection or seen.remote
    return found.status if found is not None else None


def _state(status: RunnerStatus | None) -> pool_pb2.RunnerState.ValueType:
    if status is None:
        return pool_pb2.RUNNER_STATE_DISCONNECTED
    if status.engine_away:
        return pool_pb2.RUNNER_STATE_ENGINE_AWAY
    if status.draining:
        return pool_pb2.RUNNER_STATE_DRAINING
    return pool_pb2.RUNNER_STATE_READY
