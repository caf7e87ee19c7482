"""Every call's way out: token, time limit, retry while the server is away, errors from the tree."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import grpc

from interlock.errors import (
    ChangedMeanwhile,
    DeadlineExceeded,
    InterlockError,
    TokenRefused,
    Unavailable,
    from_rpc,
)
from interlock.retry import Retry
from interlock.several import SeveralChannels
from interlock.tokens import Tokens

CALL_TIMEOUT_S = 30.0
LARGEST_PAGE = 500

log = logging.getLogger("interlock")

Metadata = tuple[tuple[str, str], ...]
Request = TypeVar("Request")
Response = TypeVar("Response")
Item = TypeVar("Item")


class ListRequest(Protocol):
    """What all List requests have."""

    page_size: int
    page_token: str


class ListResponse(Protocol):
    """What all List responses have."""

    next_page_token: str


AnyListRequest = TypeVar("AnyListRequest", bound=ListRequest)
AnyListResponse = TypeVar("AnyListResponse", bound=ListResponse)


class Transport:
    """Makes calls on one channel for one caller.

    Every method of the API may be repeated: what creates carries a request_id that stays the same.
    """

    def __init__(self, tokens: Tokens, retry: Retry, channel: SeveralChannels) -> None:
        self._tokens = tokens
        self._retry = retry
        self._channel = channel

    async def call(
        self, method: grpc.aio.UnaryUnaryMultiCallable[Request, Response], request: Request
    ) -> Response:
        async def attempt(metadata: Metadata) -> Response:
            return await method(request, metadata=metadata, timeout=CALL_TIMEOUT_S)

        return await self.persist(attempt)

    async def persist(self, attempt: Callable[[Metadata], Awaitable[Response]]) -> Response:
        """Repeats `attempt` while the server is away; renews a token that it refused, once."""
        waits = self._retry.waits()
        renewed = False
        while True:
            token, asked = "", self._channel.position
            try:
                token = await self._tokens.current()
                return await attempt(bearer(token))
            except grpc.aio.AioRpcError as error:
                problem = from_rpc(error)
                if isinstance(problem, TokenRefused) and not renewed and self._tokens.refuse(token):
                    renewed = True
                    continue
                if isinstance(problem, Unavailable | DeadlineExceeded):
                    self.move_on(asked)
                wait_s = next(waits, None) if _may_pass(problem) else None
                if wait_s is None:
                    raise problem from error
            log.warning("trying again: %s", problem)
            await asyncio.sleep(max(wait_s, _asked_wait_s(problem)))

    @property
    def position(self) -> int:
        """Which of the servers is asked now."""
        return self._channel.position

    def move_on(self, asked: int) -> None:
        """The server at this position is away: from now on the next one is asked, where there is one."""
        self._channel.move_on(asked)

    async def metadata(self) -> Metadata:
        """The headers of one stream. Raises AioRpcError where a token cannot be had."""
        return bearer(await self._tokens.current())

    def refuse(self, metadata: Metadata) -> bool:
        """Notes that a stream ended because of its token. True if another can be had."""
        return self._tokens.refuse(metadata[0][1].removeprefix("Bearer "))

    async def stream(
        self, method: grpc.aio.UnaryStreamMultiCallable[Request, Response], request: Request
    ) -> AsyncIterator[Response]:
        """Every response of one stream, as it comes. Where it breaks off, it is not opened again."""
        try:
            call = method(request, metadata=await self.metadata())
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from error

    async def pages(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[AnyListRequest, AnyListResponse],
        request: AnyListRequest,
        items: Callable[[AnyListResponse], Sequence[Item]],
        *,
        limit: int | None,
    ) -> AsyncIterator[Item]:
        """Every item of a List method, page by page as they are asked for. Uses up `request`."""
        left = limit
        while left is None or left > 0:
            request.page_size = LARGEST_PAGE if left is None else min(left, LARGEST_PAGE)
            response = await self.call(method, request)
            page = items(response)
            for item in page:
                yield item
            left = None if left is None else left - len(page)
            request.page_token = response.next_page_token
            if not request.page_token:
                return


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def _may_pass(problem: InterlockError) -> bool:
    return isinstance(problem, Unavailable | ChangedMeanwhile)


def _asked_wait_s(problem: InterlockError) -> float:
    """What the server's RetryInfo asks for."""
    return problem.retry_after_s if isinstance(problem, Unavailable) else 0.0
