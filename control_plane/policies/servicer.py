"""PolicyService over gRPC: translates, nothing else."""

from __future__ import annotations

from typing import Any

from google.protobuf.empty_pb2 import Empty

from control_plane.identity import principal
from control_plane.paging import DEFAULT_PAGE_SIZE, PageTokens
from control_plane.policies.catalog import PolicyCatalog
from control_plane.stacks.access import Access
from interlock.v1 import policy_pb2, policy_service_pb2_grpc
from interlock.v1 import policy_service_pb2 as rpc


class PolicyServicer(policy_service_pb2_grpc.PolicyServiceServicer):
    def __init__(self, catalog: PolicyCatalog, access: Access, pages: PageTokens) -> None:
        self._catalog = catalog
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
        return await self._catalog.attach(principal.current.get(), request.policy_id, request.stack_id)

    async def DetachPolicy(self, request: rpc.DetachPolicyRequest, context: Any) -> policy_pb2.Policy:
        return await self._catalog.detach(principal.current.get(), request.policy_id, request.stack_id)
