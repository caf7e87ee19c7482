"""`client.limits`: how many runs may be active or wait at once, and for how long."""

from collections.abc import AsyncIterator
from datetime import timedelta

import grpc

from interlock import enums
from interlock.times import duration
from interlock.transport import Transport
from interlock.v1 import limit_service_pb2 as pb
from interlock.v1.limit_pb2 import Limit, LimitKind
from interlock.v1.limit_service_pb2_grpc import LimitServiceStub

EACH = "*"
"""As a subject: each pool, caller or stack, in what its own limit does not set."""


class Limits:
    """For admins. A limit is told by its kind ("pool", "label", "caller" or "stack") and its subject."""

    def __init__(self, transport: Transport, channel: grpc.aio.Channel) -> None:
        self._transport = transport
        self._stub = LimitServiceStub(channel)

    async def set(
        self,
        kind: LimitKind.ValueType | str,
        subject: str,
        *,
        max_active: int | None = None,
        max_queued: int | None = None,
        queue_timeout: timedelta | None = None,
        etag: str = "",
    ) -> Limit:
        """Makes the limit, or puts this one in place of all that was set of it.

        `max_active` is of pools, labels and callers, `max_queued` of callers and stacks, `queue_timeout` of stacks.
        """
        limit = Limit(
            kind=enums.value(LimitKind, kind),
            subject=subject,
            max_active=max_active,
            max_queued=max_queued,
            queue_timeout=duration(queue_timeout),
            etag=etag,
        )
        return await self._transport.call(self._stub.SetLimit, pb.SetLimitRequest(limit=limit))

    async def get(self, kind: LimitKind.ValueType | str, subject: str) -> Limit:
        request = pb.GetLimitRequest(kind=enums.value(LimitKind, kind), subject=subject)
        return await self._transport.call(self._stub.GetLimit, request)

    def list(self, *, limit: int | None = None) -> AsyncIterator[Limit]:
        """By kind and subject."""
        request = pb.ListLimitsRequest()
        return self._transport.pages(self._stub.ListLimits, request, lambda page: page.limits, limit=limit)

    async def delete(self, kind: LimitKind.ValueType | str, subject: str, *, etag: str = "") -> None:
        """What it held back starts."""
        request = pb.DeleteLimitRequest(kind=enums.value(LimitKind, kind), subject=subject, etag=etag)
        await self._transport.call(self._stub.DeleteLimit, request)
