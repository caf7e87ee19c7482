"""`client.audit`: who did what, and whether the record is whole."""

from collections.abc import AsyncIterator
from datetime import datetime

import grpc

from interlock.times import timestamp
from interlock.transport import Transport
from interlock.v1 import audit_service_pb2 as pb
from interlock.v1.audit_pb2 import AuditEvent, AuditHead
from interlock.v1.audit_service_pb2_grpc import AuditServiceStub


class Audit:
    """Admins only."""

    def __init__(self, transport: Transport, channel: grpc.aio.Channel) -> None:
        self._transport = transport
        self._stub = AuditServiceStub(channel)

    def list(
        self,
        *,
        caller_login: str = "",
        action: str = "",
        resource_id: str = "",
        stack_id: str = "",
        after_time: datetime | None = None,
        before_time: datetime | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[AuditEvent]:
        """Newest first. `action` is whole ("task.denied") or a prefix with its dot ("task.")."""
        request = pb.ListEventsRequest(
            caller_login=caller_login,
            action=action,
            resource_id=resource_id,
            stack_id=stack_id,
            after_time=timestamp(after_time),
            before_time=timestamp(before_time),
        )
        return self._transport.pages(self._stub.ListEvents, request, lambda page: page.events, limit=limit)

    async def verify(self, *, known_head: AuditHead | None = None) -> pb.VerifyLogResponse:
        """Checks every hash of the log; `intact` and `fault` say what came out.

        With a `known_head` noted earlier it is also found whether the log's end was cut off since.
        """
        request = pb.VerifyLogRequest(known_head=known_head)
        return await self._transport.call(self._stub.VerifyLog, request)
