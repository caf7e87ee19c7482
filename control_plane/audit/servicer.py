"""AuditService: translates between messages and rules."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from control_plane import clock
from control_plane.audit.chain import Event, Head
from control_plane.audit.rules import AuditLog
from control_plane.audit.store import Filter, Listed
from control_plane.identity import principal
from control_plane.paging import DEFAULT_PAGE_SIZE, PageTokens, fitting
from interlock.v1 import audit_pb2
from interlock.v1 import audit_service_pb2 as rpc
from interlock.v1.audit_service_pb2_grpc import AuditServiceServicer
from interlock.v1.caller_pb2 import Caller

Context = grpc.aio.ServicerContext[Any, Any]


class AuditServicer(AuditServiceServicer):
    def __init__(self, log: AuditLog, page_tokens: PageTokens) -> None:
        self._log = log
        self._page_tokens = page_tokens

    async def ListEvents(self, request: rpc.ListEventsRequest, context: Context) -> rpc.ListEventsResponse:
        size = request.page_size or DEFAULT_PAGE_SIZE
        wanted = Filter(
            caller_login=request.caller_login,
            action=request.action,
            resource_id=request.resource_id,
            stack_id=request.stack_id,
            after_us=_time_us(request.after_time) if request.HasField("after_time") else None,
            before_us=_time_us(request.before_time) if request.HasField("before_time") else None,
        )
        listed = await self._log.page(
            principal.current.get(), wanted, before=self._page_tokens.decode(request), limit=size + 1
        )
        shown = fitting(map(_message, listed[:size]))
        return rpc.ListEventsResponse(
            events=shown,
            next_page_token=self._page_tokens.encode(request, shown[-1].id)
            if len(listed) > len(shown)
            else "",
        )

    async def VerifyLog(self, request: rpc.VerifyLogRequest, context: Context) -> rpc.VerifyLogResponse:
        known = request.known_head
        verification = await self._log.verify(
            principal.current.get(),
            Head(known.sequence, known.hash.lower()) if request.HasField("known_head") else None,
        )
        fault, head = verification.fault, verification.head
        return rpc.VerifyLogResponse(
            intact=fault is None,
            fault=fault.problem if fault else "",
            fault_sequence=fault.sequence if fault else 0,
            events_verified=verification.verified,
            events_unsealed=verification.unsealed,
            head=audit_pb2.AuditHead(sequence=head.sequence, hash=head.hash if head.sequence else ""),
        )


def _time_us(timestamp: Timestamp) -> int:
    # Any time that a database can hold, whatever the message says.
    return min(max(clock.from_timestamp(timestamp), 0), 2**62)


def _message(listed: Listed) -> audit_pb2.AuditEvent:
    event = listed.event
    message = audit_pb2.AuditEvent(
        id=event.id,
        event_time=clock.to_timestamp(event.occurred_at),
        caller=_caller(event),
        action=event.action,
        resource_type=event.resource_type,
        resource_id=event.resource_id,
        stack_id=event.stack_id,
        remote_ip=event.remote_ip,
        details_json=event.details,
    )
    if listed.seal is not None:
        message.sequence = listed.seal.sequence
        message.previous_hash = listed.seal.previous_hash
        message.hash = listed.seal.hash
    return message


def _caller(event: Event) -> Caller:
    try:
        return Caller.FromString(event.caller)
    except DecodeError:
        # Somebody changed the row: what is still readable is shown, and VerifyLog says the rest.
        return Caller(id=event.caller_id, login=event.caller_login)
