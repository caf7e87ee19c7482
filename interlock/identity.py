"""`client.identity`: who calls, and the API keys."""

from collections.abc import AsyncIterator, Iterable
from datetime import datetime

import grpc

from interlock.request_ids import new_request_id
from interlock.times import timestamp
from interlock.transport import Transport
from interlock.v1 import identity_service_pb2 as pb
from interlock.v1.caller_pb2 import Caller
from interlock.v1.identity_pb2 import ApiKey
from interlock.v1.identity_service_pb2_grpc import IdentityServiceStub


class CreatedKey:
    """A new API key with its secret, which is never shown again."""

    def __init__(self, api_key: ApiKey, secret: str) -> None:
        self.api_key = api_key
        self._secret = secret

    @property
    def credential(self) -> str:
        """`ID.SECRET`, as `interlock.connect(api_key=…)` takes it; empty where a request_id was repeated."""
        return f"{self.api_key.id}.{self._secret}" if self._secret else ""

    def __repr__(self) -> str:
        return f"CreatedKey({self.api_key.id}.***)"


class Identity:
    """All but `get_caller` needs an admin."""

    def __init__(self, transport: Transport, channel: grpc.aio.Channel) -> None:
        self._transport = transport
        self._stub = IdentityServiceStub(channel)

    async def get_caller(self) -> Caller:
        """Whom the server takes this client for."""
        return await self._transport.call(self._stub.GetCaller, pb.GetCallerRequest())

    async def create_key(
        self,
        name: str,
        *,
        login: str = "",
        teams: Iterable[str] = (),
        admin: bool = False,
        machine: bool = False,
        expire_time: datetime | None = None,
        request_id: str | None = None,
    ) -> CreatedKey:
        """`login` and `teams` are what policies see; without a login it is made from the name."""
        api_key = ApiKey(
            name=name,
            login=login,
            teams=teams,
            admin=admin,
            machine=machine,
            expire_time=timestamp(expire_time),
        )
        request = pb.CreateApiKeyRequest(api_key=api_key, request_id=request_id or new_request_id())
        response = await self._transport.call(self._stub.CreateApiKey, request)
        return CreatedKey(response.api_key, response.secret)

    def list_keys(self, *, show_ended: bool = False, limit: int | None = None) -> AsyncIterator[ApiKey]:
        """Newest first; with `show_ended` also those revoked or expired."""
        request = pb.ListApiKeysRequest(show_ended=show_ended)
        return self._transport.pages(self._stub.ListApiKeys, request, lambda page: page.api_keys, limit=limit)

    async def revoke_key(self, key_id: str) -> ApiKey:
        """Its tokens stop working at once. Raises InUse for the last admin key."""
        return await self._transport.call(self._stub.RevokeApiKey, pb.RevokeApiKeyRequest(key_id=key_id))
