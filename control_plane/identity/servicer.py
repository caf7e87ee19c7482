"""IdentityService: translates between messages and rules."""

from __future__ import annotations

from typing import Any

import grpc

from control_plane import clock
from control_plane.identity import principal
from control_plane.identity.api_key import ApiKey
from control_plane.identity.credentials import Credential
from control_plane.identity.rules import Draft, Keys
from control_plane.paging import DEFAULT_PAGE_SIZE, PageTokens
from interlock.v1 import caller_pb2, identity_pb2
from interlock.v1 import identity_service_pb2 as rpc
from interlock.v1.identity_service_pb2_grpc import IdentityServiceServicer

Context = grpc.aio.ServicerContext[Any, Any]


class IdentityServicer(IdentityServiceServicer):
    def __init__(self, keys: Keys, page_tokens: PageTokens) -> None:
        self._keys = keys
        self._page_tokens = page_tokens

    async def ExchangeApiKey(
        self, request: rpc.ExchangeApiKeyRequest, context: Context
    ) -> rpc.ExchangeApiKeyResponse:
        caller = principal.current.get(principal.anonymous(""))
        exchanged = await self._keys.exchange(caller, Credential(request.key_id, request.secret))
        return rpc.ExchangeApiKeyResponse(
            access_token=exchanged.access_token,
            expire_time=clock.to_timestamp(exchanged.expires_at),
            caller=exchanged.principal.to_caller(),
        )

    async def GetCaller(self, request: rpc.GetCallerRequest, context: Context) -> caller_pb2.Caller:
        return principal.current.get().to_caller()

    async def CreateApiKey(
        self, request: rpc.CreateApiKeyRequest, context: Context
    ) -> rpc.CreateApiKeyResponse:
        key, credential = await self._keys.create(
            principal.current.get(), _draft(request.api_key), request_id=request.request_id, content=request
        )
        return rpc.CreateApiKeyResponse(api_key=_message(key), secret=credential.secret if credential else "")

    async def ListApiKeys(self, request: rpc.ListApiKeysRequest, context: Context) -> rpc.ListApiKeysResponse:
        size = request.page_size or DEFAULT_PAGE_SIZE
        keys = await self._keys.page(
            principal.current.get(),
            before=self._page_tokens.decode(request),
            limit=size + 1,
            with_ended=request.show_ended,
        )
        shown = keys[:size]
        return rpc.ListApiKeysResponse(
            api_keys=[_message(key) for key in shown],
            next_page_token=self._page_tokens.encode(request, shown[-1].id) if len(keys) > size else "",
        )

    async def RevokeApiKey(self, request: rpc.RevokeApiKeyRequest, context: Context) -> identity_pb2.ApiKey:
        return _message(await self._keys.revoke(principal.current.get(), request.key_id))


def _draft(message: identity_pb2.ApiKey) -> Draft:
    return Draft(
        name=message.name,
        login=message.login,
        teams=tuple(message.teams),
        admin=message.admin,
        machine=message.machine,
        expires_at=clock.from_timestamp(message.expire_time) if message.HasField("expire_time") else None,
    )


def _message(key: ApiKey) -> identity_pb2.ApiKey:
    message = identity_pb2.ApiKey(
        id=key.id,
        name=key.name,
        login=key.login,
        teams=key.teams,
        admin=key.admin,
        machine=key.machine,
        create_time=clock.to_timestamp(key.created_at),
    )
    if key.expires_at is not None:
        message.expire_time.CopyFrom(clock.to_timestamp(key.expires_at))
    if key.revoked_at is not None:
        message.revoke_time.CopyFrom(clock.to_timestamp(key.revoked_at))
    if key.last_used_at is not None:
        message.last_use_time.CopyFrom(clock.to_timestamp(key.last_used_at - key.last_used_at % 60_000_000))
    return message
