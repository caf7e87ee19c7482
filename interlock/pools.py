"""`client.pools`: pools, their tokens and their runners."""

from collections.abc import AsyncIterator, Iterable

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from interlock.request_ids import new_request_id
from interlock.transport import Transport
from interlock.v1 import pool_service_pb2 as pb
from interlock.v1.pool_pb2 import ContainerOptions, Pool, PoolToken, Runner
from interlock.v1.pool_service_pb2_grpc import PoolServiceStub


class CreatedPoolToken:
    """A new pool token with its secret, which is never shown again."""

    def __init__(self, pool_token: PoolToken, credential: str) -> None:
        self.pool_token = pool_token
        self.credential = credential
        """What a runner is given as INTERLOCK_POOL_TOKEN; empty where a request_id was repeated."""

    def __repr__(self) -> str:
        return f"CreatedPoolToken({self.pool_token.id}.***)"


class Pools:
    """Changes and tokens need an admin, the rest any caller."""

    def __init__(self, transport: Transport, channel: grpc.aio.Channel) -> None:
        self._transport = transport
        self._stub = PoolServiceStub(channel)

    async def create(
        self,
        name: str,
        *,
        pool_id: str = "",
        public: bool = False,
        labels: Iterable[str] = (),
        container: ContainerOptions | None = None,
        request_id: str | None = None,
    ) -> Pool:
        """A private pool serves only stacks that name it. `container` says what every container gets."""
        pool = Pool(id=pool_id, name=name, public=public, labels=labels, container=container)
        request = pb.CreatePoolRequest(pool=pool, request_id=request_id or new_request_id())
        return await self._transport.call(self._stub.CreatePool, request)

    async def get(self, pool_id: str) -> Pool:
        return await self._transport.call(self._stub.GetPool, pb.GetPoolRequest(pool_id=pool_id))

    def list(self, *, limit: int | None = None) -> AsyncIterator[Pool]:
        """By id."""
        request = pb.ListPoolsRequest()
        return self._transport.pages(self._stub.ListPools, request, lambda page: page.pools, limit=limit)

    async def update(
        self,
        pool_id: str,
        *,
        name: str | None = None,
        labels: Iterable[str] | None = None,
        container: ContainerOptions | None = None,
    ) -> Pool:
        """Changes what is given and leaves the rest. Counts for containers made afterwards."""
        changes = {"name": name, "labels": labels, "container": container}
        given = {field: value for field, value in changes.items() if value is not None}
        request = pb.UpdatePoolRequest(
            pool=Pool(id=pool_id, **given),  # type: ignore[arg-type]  # typed in the signature
            update_mask=FieldMask(paths=given),
        )
        return await self._transport.call(self._stub.UpdatePool, request)

    async def delete(self, pool_id: str) -> None:
        """Raises InUse while stacks name it."""
        await self._transport.call(self._stub.DeletePool, pb.DeletePoolRequest(pool_id=pool_id))

    async def create_token(
        self, pool_id: str, *, name: str = "", request_id: str | None = None
    ) -> CreatedPoolToken:
        """A credential for the runners of this pool."""
        request = pb.CreatePoolTokenRequest(
            pool_id=pool_id, name=name, request_id=request_id or new_request_id()
        )
        response = await self._transport.call(self._stub.CreatePoolToken, request)
        return CreatedPoolToken(response.pool_token, response.secret)

    def list_tokens(self, pool_id: str, *, limit: int | None = None) -> AsyncIterator[PoolToken]:
        """Newest first, revoked ones too."""
        request = pb.ListPoolTokensRequest(pool_id=pool_id)
        return self._transport.pages(
            self._stub.ListPoolTokens, request, lambda page: page.pool_tokens, limit=limit
        )

    async def revoke_token(self, pool_token_id: str) -> PoolToken:
        """Its runners are disconnected and cannot come back with it. What they perform goes on."""
        request = pb.RevokePoolTokenRequest(pool_token_id=pool_token_id)
        return await self._transport.call(self._stub.RevokePoolToken, request)

    def list_runners(self, *, pool_id: str = "", limit: int | None = None) -> AsyncIterator[Runner]:
        """By name; without those gone for more than a day."""
        request = pb.ListRunnersRequest(pool_id=pool_id)
        return self._transport.pages(self._stub.ListRunners, request, lambda page: page.runners, limit=limit)
