"""A small gRPC server that answers as a test tells it to: for what only a transport can get wrong."""

# ruff: noqa: N802  # methods are named by the API

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status.rpc_status import to_status

from interlock.v1 import (
    identity_service_pb2,
    identity_service_pb2_grpc,
    run_service_pb2_grpc,
    slot_service_pb2_grpc,
)
from interlock.v1.run_pb2 import RUN_STATE_FINISHED, RUN_STATE_PERFORMING, Run
from interlock.v1.run_service_pb2 import (
    CreateTaskRequest,
    GetRunRequest,
    ListRunsRequest,
    ListRunsResponse,
    OutputChunk,
    WatchRunRequest,
    WatchRunResponse,
)
from interlock.v1.slot_service_pb2 import (
    AcquireSlotRequest,
    AcquireSlotResponse,
    ReleaseSlotRequest,
    RenewSlotRequest,
)

Context = grpc.aio.ServicerContext[Any, Any]
RUN_ID = "run_" + "0" * 26


async def refuse(
    context: Context, code: grpc.StatusCode, reason: str, message: str, *details: Message
) -> NoReturn:
    """Fails the call as the control plane's interceptor does."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="interlock.dev")
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in (info, *details):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    await context.abort_with_status(to_status(status))
    raise AssertionError("abort raises")


def output(offset: int, data: bytes) -> WatchRunResponse:
    return WatchRunResponse(output=OutputChunk(offset=offset, data=data))


def performing(size: int = 0) -> WatchRunResponse:
    return WatchRunResponse(run=Run(id=RUN_ID, state=RUN_STATE_PERFORMING, output_size_bytes=size))


def finished(size: int, sha256: str = "") -> WatchRunResponse:
    run = Run(id=RUN_ID, state=RUN_STATE_FINISHED, output_size_bytes=size, output_sha256=sha256, exit_code=0)
    return WatchRunResponse(run=run)


async def _unexpected(request: Message, context: Context) -> NoReturn:
    raise AssertionError(f"not expected: {request}")


async def _unexpected_stream(request: Message, context: Context) -> AsyncIterator[WatchRunResponse]:
    raise AssertionError(f"not expected: {request}")
    yield WatchRunResponse()


async def _no_slot(request: Message, context: Context) -> AsyncIterator[AcquireSlotResponse]:
    raise AssertionError(f"not expected: {request}")
    yield AcquireSlotResponse()


@dataclass
class Behaviour:
    """What the server does; each call is noted before it is answered."""

    create_task: Callable[[CreateTaskRequest, Context], Awaitable[Run]] = _unexpected
    get_run: Callable[[GetRunRequest, Context], Awaitable[Run]] = _unexpected
    list_runs: Callable[[ListRunsRequest, Context], Awaitable[ListRunsResponse]] = _unexpected
    watch_run: Callable[[WatchRunRequest, Context], AsyncIterator[WatchRunResponse]] = _unexpected_stream
    acquire_slot: Callable[[AcquireSlotRequest, Context], AsyncIterator[AcquireSlotResponse]] = _no_slot
    renew_slot: Callable[[RenewSlotRequest, Context], Awaitable[Run]] = _unexpected
    release_slot: Callable[[ReleaseSlotRequest, Context], Awaitable[Run]] = _unexpected
    token_life: timedelta = timedelta(hours=1)
    tasks: list[CreateTaskRequest] = field(default_factory=list)
    lists: list[ListRunsRequest] = field(default_factory=list)
    watches: list[WatchRunRequest] = field(default_factory=list)
    acquisitions: list[AcquireSlotRequest] = field(default_factory=list)
    renewals: list[RenewSlotRequest] = field(default_factory=list)
    releases: list[ReleaseSlotRequest] = field(default_factory=list)
    tokens_seen: list[str] = field(default_factory=list)
    exchanges: int = 0


class Server:
    """Listens on one unix socket; can be killed and started again there."""

    def __init__(self, socket: Path) -> None:
        self.address = f"unix://{socket}"
        self.does = Behaviour()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server()
        run_service_pb2_grpc.add_RunServiceServicer_to_server(_Runs(self.does), self._server)  # type: ignore[abstract]
        slot_service_pb2_grpc.add_SlotServiceServicer_to_server(_Slots(self.does), self._server)
        identity_service_pb2_grpc.add_IdentityServiceServicer_to_server(_Identity(self.does), self._server)  # type: ignore[abstract]
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None


class _Runs(run_service_pb2_grpc.RunServiceServicer):
    def __init__(self, does: Behaviour) -> None:
        self._does = does

    def _note_token(self, context: Context) -> None:
        self._does.tokens_seen.append(str(dict(context.invocation_metadata() or ())["authorization"]))

    async def CreateTask(self, request: CreateTaskRequest, context: Context) -> Run:
        self._does.tasks.append(request)
        self._note_token(context)
        return await self._does.create_task(request, context)

    async def GetRun(self, request: GetRunRequest, context: Context) -> Run:
        return await self._does.get_run(request, context)

    async def ListRuns(self, request: ListRunsRequest, context: Context) -> ListRunsResponse:
        self._does.lists.append(request)
        self._note_token(context)
        return await self._does.list_runs(request, context)

    async def WatchRun(self, request: WatchRunRequest, context: Context) -> AsyncIterator[WatchRunResponse]:
        self._does.watches.append(request)
        self._note_token(context)
        async for response in self._does.watch_run(request, context):
            yield response


class _Slots(slot_service_pb2_grpc.SlotServiceServicer):
    def __init__(self, does: Behaviour) -> None:
        self._does = does

    async def AcquireSlot(
        self, request: AcquireSlotRequest, context: Context
    ) -> AsyncIterator[AcquireSlotResponse]:
        self._does.acquisitions.append(request)
        async for response in self._does.acquire_slot(request, context):
            yield response

    async def RenewSlot(self, request: RenewSlotRequest, context: Context) -> Run:
        self._does.renewals.append(request)
        return await self._does.renew_slot(request, context)

    async def ReleaseSlot(self, request: ReleaseSlotRequest, context: Context) -> Run:
        self._does.releases.append(request)
        return await self._does.release_slot(request, context)


class _Identity(identity_service_pb2_grpc.IdentityServiceServicer):
    def __init__(self, does: Behaviour) -> None:
        self._does = does

    async def ExchangeApiKey(
        self, request: identity_service_pb2.ExchangeApiKeyRequest, context: Context
    ) -> identity_service_pb2.ExchangeApiKeyResponse:
        if request.secret != "right":
            await refuse(context, grpc.StatusCode.UNAUTHENTICATED, "BAD_CREDENTIALS", "no such key")
        self._does.exchanges += 1
        response = identity_service_pb2.ExchangeApiKeyResponse(access_token=f"token-{self._does.exchanges}")
        response.expire_time.FromDatetime(datetime.now(UTC) + self._does.token_life)
        return response
