"""LimitService: translates between messages and rules."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from control_plane import clock
from control_plane.identity import principal
from control_plane.limits.limit import EACH, Kind, Limit
from control_plane.limits.rules import LimitSettings
from control_plane.paging import DEFAULT_PAGE_SIZE, PageTokens
from interlock.v1 import limit_pb2
from interlock.v1 import limit_service_pb2 as rpc
from interlock.v1.limit_service_pb2_grpc import LimitServiceServicer

Context = grpc.aio.ServicerContext[Any, Any]


class LimitServicer(LimitServiceServicer):
    def __init__(self, settings: LimitSettings, pages: PageTokens) -> None:
        self._settings = settings
        self._pages = pages

    async def SetLimit(self, request: rpc.SetLimitRequest, context: Context) -> limit_pb2.Limit:
        caller = principal.current.get()
        limit = await self._settings.set(caller, _draft(request.limit), request.limit.etag)
        return _limit(*await self._settings.get(caller, limit.kind, limit.subject))

    async def GetLimit(self, request: rpc.GetLimitRequest, context: Context) -> limit_pb2.Limit:
        found = await self._settings.get(principal.current.get(), _kind(request.kind), request.subject)
        return _limit(*found)

    async def ListLimits(self, request: rpc.ListLimitsRequest, context: Context) -> rpc.ListLimitsResponse:
        size = request.page_size or DEFAULT_PAGE_SIZE
        # A subject has no NUL; the interceptor sees to it.
        kind, _, subject = self._pages.decode(request).partition("\0")
        limits = await self._settings.page(principal.current.get(), (kind, subject), size + 1)
        shown = limits[:size]
        token = ""
        if len(limits) > size:
            last, _ = shown[-1]
            token = self._pages.encode(request, f"{last.kind.value}\0{last.subject}")
        return rpc.ListLimitsResponse(
            limits=[_limit(limit, active) for limit, active in shown], next_page_token=token
        )

    async def DeleteLimit(self, request: rpc.DeleteLimitRequest, context: Context) -> Empty:
        await self._settings.delete(
            principal.current.get(), _kind(request.kind), request.subject, request.etag
        )
        return Empty()


def _kind(kind: limit_pb2.LimitKind.ValueType) -> Kind:
    return Kind(limit_pb2.LimitKind.Name(kind).removeprefix("LIMIT_KIND_"))


def _draft(message: limit_pb2.Limit) -> Limit:
    has_timeout = message.HasField("queue_timeout")
    return Limit(
        kind=_kind(message.kind),
        subject=message.subject,
        max_active=message.max_active if message.HasField("max_active") else None,
        max_queued=message.max_queued if message.HasField("max_queued") else None,
        queue_timeout_us=clock.from_duration(message.queue_timeout) if has_timeout else None,
    )


def _limit(limit: Limit, active: int) -> limit_pb2.Limit:
    message = limit_pb2.Limit(
        kind=limit.kind.to_proto(),
        subject=limit.subject,
        id=limit.id,
        max_active=limit.max_active,
        max_queued=limit.max_queued,
        etag=limit.etag,
        create_time=clock.to_timestamp(limit.created_at),
        update_time=clock.to_timestamp(limit.updated_at),
        active_runs=0 if limit.subject == EACH else active,
    )
    if limit.queue_timeout_us is not None:
        message.queue_timeout.FromMicroseconds(limit.queue_timeout_us)
    return message
