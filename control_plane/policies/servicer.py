"""PolicyService over gRPC: translates, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from google.protobuf.empty_pb2 import Empty

from control_plane import clock
from control_plane.identity import principal
from control_plane.paging import DEFAULT_PAGE_SIZE, PageTokens, fitting
from control_plane.policies.attaching import Attachments
from control_plane.policies.backtest import Backtests
from control_plane.policies.catalog import PolicyCatalog
from control_plane.policies.quarantine import Quarantine
from control_plane.policies.revisions import Revisions
from control_plane.policies.shadow_report import ShadowReports
from control_plane.policies.simulate import Simulations
from control_plane.stacks.access import Access
from interlock.v1 import policy_pb2, policy_service_pb2_grpc
from interlock.v1 import policy_service_pb2 as rpc


class PolicyServicer(policy_service_pb2_grpc.PolicyServiceServicer):
    def __init__(
        self,
        catalog: PolicyCatalog,
        attachments: Attachments,
        revisions: Revisions,
        reports: ShadowReports,
        simulations: Simulations,
        backtests: Backtests,
        quarantine: Quarantine,
        access: Access,
        pages: PageTokens,
    ) -> None:
        self._catalog = catalog
        self._attachments = attachments
        self._revisions = revisions
        self._reports = reports
        self._simulations = simulations
        self._backtests = backtests
        self._quarantine = quarantine
        self._access = access
        self._pages = pages

    async def CreatePolicy(self, request: rpc.CreatePolicyRequest, context: Any) -> policy_pb2.Policy:
        return await self._catalog.create(principal.current.get(), request)

    async def GetPolicy(self, request: rpc.GetPolicyRequest, context: Any) -> policy_pb2.Policy:
        return await self._catalog.get(request.policy_id)

    async def ListPolicies(self, request: rpc.ListPoliciesRequest, context: Any) -> rpc.ListPoliciesResponse:
        labels = None
        if request.stack_id:
            stack = await self._access.readable(principal.current.get(), request.stack_id)
            labels = stack.labels
        size = request.page_size or DEFAULT_PAGE_SIZE
        found = await self._catalog.list(request, self._pages.decode(request), size + 1, labels)
        shown = found[:size]
        return rpc.ListPoliciesResponse(
            policies=shown,
            next_page_token=self._pages.encode(request, shown[-1].id) if len(found) > size else "",
        )

    async def UpdatePolicy(self, request: rpc.UpdatePolicyRequest, context: Any) -> policy_pb2.Policy:
        return await self._catalog.update(principal.current.get(), request)

    async def DeletePolicy(self, request: rpc.DeletePolicyRequest, context: Any) -> Empty:
        await self._catalog.delete(principal.current.get(), request.policy_id, request.etag)
        return Empty()

    async def AttachPolicy(self, request: rpc.AttachPolicyRequest, context: Any) -> policy_pb2.Policy:
        return await self._attachments.attach(
            principal.current.get(), request.policy_id, request.stack_id, shadow=request.shadow
        )

    async def DetachPolicy(self, request: rpc.DetachPolicyRequest, context: Any) -> policy_pb2.Policy:
        return await self._attachments.detach(principal.current.get(), request.policy_id, request.stack_id)

    async def ListAttachedPolicies(
        self, request: rpc.ListAttachedPoliciesRequest, context: Any
    ) -> rpc.ListAttachedPoliciesResponse:
        stack = await self._access.readable(principal.current.get(), request.stack_id)
        return rpc.ListAttachedPoliciesResponse(policies=await self._attachments.of_stack(stack))

    async def ListPolicyStacks(
        self, request: rpc.ListPolicyStacksRequest, context: Any
    ) -> rpc.ListPolicyStacksResponse:
        stacks, last_id = await self._attachments.of_policy(
            principal.current.get(),
            request.policy_id,
            self._pages.decode(request),
            request.page_size or DEFAULT_PAGE_SIZE,
        )
        return rpc.ListPolicyStacksResponse(
            stacks=stacks, next_page_token=self._pages.encode(request, last_id) if last_id else ""
        )

    async def ListPolicyRevisions(
        self, request: rpc.ListPolicyRevisionsRequest, context: Any
    ) -> rpc.ListPolicyRevisionsResponse:
        size = request.page_size or DEFAULT_PAGE_SIZE
        cursor = self._pages.decode(request)
        found = await self._revisions.page(request.policy_id, int(cursor) if cursor else None, size + 1)
        shown = fitting(found[:size])
        return rpc.ListPolicyRevisionsResponse(
            revisions=shown,
            next_page_token=self._pages.encode(request, str(shown[-1].revision))
            if len(found) > len(shown)
            else "",
        )

    async def GetPolicyRevision(
        self, request: rpc.GetPolicyRevisionRequest, context: Any
    ) -> policy_pb2.PolicyRevision:
        return await self._revisions.get(request.policy_id, request.revision)

    async def RollbackPolicy(self, request: rpc.RollbackPolicyRequest, context: Any) -> policy_pb2.Policy:
        return await self._catalog.rollback(principal.current.get(), request)

    async def ReleasePolicy(self, request: rpc.ReleasePolicyRequest, context: Any) -> policy_pb2.Policy:
        return await self._quarantine.release(principal.current.get(), request.policy_id)

    async def GetShadowReport(
        self, request: rpc.GetShadowReportRequest, context: Any
    ) -> policy_pb2.ShadowReport:
        since_us = clock.from_timestamp(request.since) if request.HasField("since") else 0
        return await self._reports.of(principal.current.get(), request.policy_id, since_us)

    async def SimulatePolicy(
        self, request: rpc.SimulatePolicyRequest, context: Any
    ) -> rpc.SimulatePolicyResponse:
        simulation = await self._simulations.of(principal.current.get(), request)
        return rpc.SimulatePolicyResponse(simulation=simulation)

    async def BacktestPolicy(
        self, request: rpc.BacktestPolicyRequest, context: Any
    ) -> AsyncIterator[rpc.BacktestPolicyResponse]:
        async with aclosing(self._backtests.run(principal.current.get(), request)) as responses:
            async for response in responses:
                yield response
