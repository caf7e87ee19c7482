"""DecisionService over gRPC: translates, nothing else."""

from __future__ import annotations

from typing import Any

from control_plane.identity import principal
from control_plane.policies.decision_log import DecisionLog
from interlock.v1 import decision_pb2, decision_service_pb2_grpc
from interlock.v1 import decision_service_pb2 as rpc


class DecisionServicer(decision_service_pb2_grpc.DecisionServiceServicer):
    def __init__(self, decisions: DecisionLog) -> None:
        self._decisions = decisions

    async def GetDecision(self, request: rpc.GetDecisionRequest, context: Any) -> decision_pb2.Decision:
        return await self._decisions.get(principal.current.get(), request.decision_id)

    async def ListDecisions(
        self, request: rpc.ListDecisionsRequest, context: Any
    ) -> rpc.ListDecisionsResponse:
        return await self._decisions.list(principal.current.get(), request)
