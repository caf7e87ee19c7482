"""The bearer token of each call: given once, or exchanged for an API key and renewed before it expires."""

import asyncio
import time
from datetime import UTC
from typing import TYPE_CHECKING, Protocol

from interlock.errors import Misconfigured
from interlock.v1 import identity_service_pb2 as pb

if TYPE_CHECKING:
    from interlock.v1.identity_service_pb2_grpc import IdentityServiceAsyncStub

EXCHANGE_TIMEOUT_S = 15.0
# A token is renewed when a fifth of its life is left: a call that starts now must not outlive it.
RENEW_BEFORE = 0.2


class Tokens(Protocol):
    """Where the transport gets the token of a call."""

    async def current(self) -> str:
        """A token that is in force as far as the client knows."""

    def refuse(self, token: str) -> bool:
        """Notes that the server refused this token. True if another can be had."""


class FixedToken:
    """One token, used until the server refuses it."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def current(self) -> str:
        return self._token

    def refuse(self, token: str) -> bool:  # noqa: ARG002  # there is only one
        return False

    def __repr__(self) -> str:
        return "FixedToken(***)"


class ExchangedTokens:
    """Tokens for an API key `ID.SECRET`. Calls that need one at the same time share one exchange."""

    def __init__(self, api_key: str, stub: "IdentityServiceAsyncStub") -> None:
        key_id, dot, secret = api_key.strip().partition(".")
        if not (key_id and dot and secret):
            raise Misconfigured("an API key has the form ID.SECRET, as `interlock key create` shows it")
        self._request = pb.ExchangeApiKeyRequest(key_id=key_id, secret=secret)
        self._stub = stub
        self._exchange = asyncio.Lock()
        self._token = ""
        self._renew_at = 0.0

    async def current(self) -> str:
        async with self._exchange:
            if not self._token or time.monotonic() >= self._renew_at:
                await self._renew()
            return self._token

    def refuse(self, token: str) -> bool:
        if token == self._token:
            self._token = ""
        return True

    async def _renew(self) -> None:
        asked_at, asked_at_wall = time.monotonic(), time.time()
        response = await self._stub.ExchangeApiKey(self._request, timeout=EXCHANGE_TIMEOUT_S)
        life_s = response.expire_time.ToDatetime(UTC).timestamp() - asked_at_wall
        self._token = response.access_token
        self._renew_at = asked_at + max(life_s * (1 - RENEW_BEFORE), 1.0)

    def __repr__(self) -> str:
        return f"ExchangedTokens({self._request.key_id}.***)"
