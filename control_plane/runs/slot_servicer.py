"""SlotService over gRPC: translates, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from control_plane.identity import principal
from control_plane.identity.authenticator import Authenticator
from control_plane.runs.lending import Lending
from control_plane.runs.queries import Queries
from interlock.v1 import run_pb2, slot_service_pb2_grpc
from interlock.v1 import slot_service_pb2 as rpc


class SlotServicer(slot_service_pb2_grpc.SlotServiceServicer):
    def __init__(self, lending: Lending, queries: Queries, authenticator: Authenticator) -> None:
        self._lending = lending
        self._queries = queries
        self._authenticator = authenticator

    async def AcquireSlot(
        self, request: rpc.AcquireSlotRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[rpc.AcquireSlotResponse]:
        caller = principal.current.get()

        async def recheck(run_id: str) -> None:
            again = await self._authenticator.authenticate(context.invocation_metadata(), caller.remote_ip)
            await self._queries.writable_row(again, run_id)

        async for run in self._lending.acquire(caller, request, recheck):
            yield rpc.AcquireSlotResponse(run=run)

    async def RenewSlot(self, request: rpc.RenewSlotRequest, context: Any) -> run_pb2.Run:
        return await self._lending.renew(principal.current.get(), request)

    async def ReleaseSlot(self, request: rpc.ReleaseSlotRequest, context: Any) -> run_pb2.Run:
        return await self._lending.release(principal.current.get(), request)
