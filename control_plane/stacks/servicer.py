"""StackService over gRPC: translates between messages and the rules, and decides nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from control_plane.identity import principal
from control_plane.paging import DEFAULT_PAGE_SIZE, PageTokens, fitting
from control_plane.stacks.environment import Environments
from control_plane.stacks.locks import Locks
from control_plane.stacks.messages import to_stack
from control_plane.stacks.rules import Stacks
from control_plane.stacks.upload import Uploads
from interlock.v1 import stack_pb2, stack_service_pb2_grpc
from interlock.v1 import stack_service_pb2 as rpc

Context = grpc.aio.ServicerContext[Any, Any]


class StackServicer(stack_service_pb2_grpc.StackServiceServicer):
    def __init__(
        self, stacks: Stacks, locks: Locks, environments: Environments, uploads: Uploads, tokens: PageTokens
    ) -> None:
        self._stacks = stacks
        self._locks = locks
        self._environments = environments
        self._uploads = uploads
        self._tokens = tokens

    async def CreateStack(self, request: rpc.CreateStackRequest, context: Context) -> stack_pb2.Stack:
        return to_stack(await self._stacks.create(principal.current.get(), request))

    async def GetStack(self, request: rpc.GetStackRequest, context: Context) -> stack_pb2.Stack:
        return to_stack(await self._stacks.get(principal.current.get(), request.stack_id))

    async def ListStacks(self, request: rpc.ListStacksRequest, context: Context) -> rpc.ListStacksResponse:
        stacks, next_after = await self._stacks.list_page(
            principal.current.get(),
            request.labels,
            self._tokens.decode(request),
            request.page_size or DEFAULT_PAGE_SIZE,
        )
        shown = fitting(map(to_stack, stacks))
        if len(shown) < len(stacks):
            next_after = shown[-1].id
        return rpc.ListStacksResponse(
            stacks=shown,
            next_page_token=self._tokens.encode(request, next_after) if next_after else "",
        )

    async def UpdateStack(self, request: rpc.UpdateStackRequest, context: Context) -> stack_pb2.Stack:
        paths = list(request.update_mask.paths)
        return to_stack(await self._stacks.update(principal.current.get(), request.stack, paths))

    async def DeleteStack(self, request: rpc.DeleteStackRequest, context: Context) -> Empty:
        await self._stacks.delete(principal.current.get(), request.stack_id, request.etag)
        return Empty()

    async def LockStacks(self, request: rpc.LockStacksRequest, context: Context) -> rpc.LockStacksResponse:
        stacks = await self._locks.lock(principal.current.get(), request.stack_ids, request.note)
        return rpc.LockStacksResponse(stacks=map(to_stack, stacks))

    async def UnlockStacks(
        self, request: rpc.UnlockStacksRequest, context: Context
    ) -> rpc.UnlockStacksResponse:
        stacks = await self._locks.unlock(principal.current.get(), request.stack_ids)
        return rpc.UnlockStacksResponse(stacks=map(to_stack, stacks))

    async def GetEnvironment(
        self, request: rpc.GetEnvironmentRequest, context: Context
    ) -> stack_pb2.Environment:
        return await self._environments.get(principal.current.get(), request.stack_id)

    async def SetEnvironment(
        self, request: rpc.SetEnvironmentRequest, context: Context
    ) -> stack_pb2.Environment:
        return await self._environments.set(
            principal.current.get(), request.stack_id, request.variables, request.files
        )

    async def UnsetEnvironment(
        self, request: rpc.UnsetEnvironmentRequest, context: Context
    ) -> stack_pb2.Environment:
        return await self._environments.unset(
            principal.current.get(), request.stack_id, request.names, request.paths
        )

    async def UploadSource(
        self, request_iterator: AsyncIterator[rpc.UploadSourceRequest], context: Context
    ) -> stack_pb2.Stack:
        return to_stack(await self._uploads.store(principal.current.get(), request_iterator))
