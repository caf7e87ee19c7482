"""`client.decisions`: what policies decided, and on what."""

from collections.abc import AsyncIterator
from datetime import datetime

import grpc

from interlock import enums
from interlock.times import timestamp
from interlock.transport import Transport
from interlock.v1 import decision_service_pb2 as pb
from interlock.v1.decision_pb2 import Decision
from interlock.v1.decision_service_pb2_grpc import DecisionServiceStub
from interlock.v1.policy_pb2 import PolicyKind


class Decisions:
    """Of the stacks that the caller may read; logins for admins."""

    def __init__(self, transport: Transport, channel: grpc.aio.Channel) -> None:
        self._transport = transport
        self._stub = DecisionServiceStub(channel)

    async def get(self, decision_id: str) -> Decision:
        """One decision, whole: with `input_json` and `result_json`."""
        return await self._transport.call(
            self._stub.GetDecision, pb.GetDecisionRequest(decision_id=decision_id)
        )

    def list(
        self,
        *,
        stack_id: str = "",
        run_id: str = "",
        kind: PolicyKind.ValueType | str = PolicyKind.POLICY_KIND_UNSPECIFIED,
        caller_login: str = "",
        allowed: bool | None = None,
        samples_only: bool = False,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        whole: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[Decision]:
        """Newest first; with `whole`, each with its input and its result, to be evaluated again."""
        request = pb.ListDecisionsRequest(
            stack_id=stack_id,
            run_id=run_id,
            kind=enums.value(PolicyKind, kind),
            caller_login=caller_login,
            allowed=allowed,
            samples_only=samples_only,
            created_after=timestamp(created_after),
            created_before=timestamp(created_before),
            whole=whole,
        )
        return self._transport.pages(
            self._stub.ListDecisions, request, lambda page: page.decisions, limit=limit
        )
