"""RunService over gRPC: translates, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from control_plane.identity import principal
from control_plane.identity.authenticator import Authenticator
from control_plane.pools.connections import Connections
from control_plane.runs import confirm, stop
from control_plane.runs.abandon import Abandonment
from control_plane.runs.create import TaskCreation
from control_plane.runs.explain import Explanations
from control_plane.runs.notices import Notices
from control_plane.runs.queries import Queries
from control_plane.runs.review import Approvals
from control_plane.runs.start import RunStarts
from control_plane.runs.watch import Watches
from control_plane.storage.database import Database, Unit
from interlock.v1 import run_pb2, run_service_pb2_grpc
from interlock.v1 import run_service_pb2 as rpc
from interlock.v1 import runner_service_pb2 as runner_rpc


class RunServicer(run_service_pb2_grpc.RunServiceServicer):
    def __init__(
        self,
        db: Database,
        creation: TaskCreation,
        starts: RunStarts,
        abandonment: Abandonment,
        queries: Queries,
        watches: Watches,
        connections: Connections,
        notices: Notices,
        authenticator: Authenticator,
        approvals: Approvals,
        explanations: Explanations,
    ) -> None:
        self._db = db
        self._authenticator = authenticator
        self._approvals = approvals
        self._explanations = explanations
        self._creation = creation
        self._starts = starts
        self._abandonment = abandonment
        self._queries = queries
        self._watches = watches
        self._connections = connections
        self._notices = notices

    async def CreateTask(self, request: rpc.CreateTaskRequest, context: Any) -> run_pb2.Run:
        return await self._creation.create(principal.current.get(), request)

    async def ExplainTask(self, request: rpc.ExplainTaskRequest, context: Any) -> rpc.ExplainTaskResponse:
        return await self._explanations.of_task(principal.current.get(), request)

    async def GetRun(self, request: rpc.GetRunRequest, context: Any) -> run_pb2.Run:
        await self._queries.readable_row(principal.current.get(), request.run_id)
        return await self._queries.load(request.run_id)

    async def ListRuns(self, request: rpc.ListRunsRequest, context: Any) -> rpc.ListRunsResponse:
        return await self._queries.list(principal.current.get(), request)

    async def WatchRun(  # type: ignore[override]  # messages that are serialised already go out as they are
        self, request: rpc.WatchRunRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[rpc.WatchRunResponse | bytes]:
        caller = principal.current.get()
        row = await self._queries.readable_row(caller, request.run_id)

        async def recheck() -> None:
            again = await self._authenticator.authenticate(context.invocation_metadata(), caller.remote_ip)
            await self._queries.readable_row(again, request.run_id)

        messages = self._watches.watch(
            row.id, row.stack_id, request.output_offset, omit_output=request.omit_output, recheck=recheck
        )
        async for message in messages:
            yield message

    async def StopRun(self, request: rpc.StopRunRequest, context: Any) -> run_pb2.Run:
        caller = principal.current.get()
        await self._queries.writable_row(caller, request.run_id)
        return await self._stop(lambda tx: stop.stop(tx, stop.find(tx, request.run_id), caller))

    async def ReviewRun(self, request: rpc.ReviewRunRequest, context: Any) -> run_pb2.Run:
        caller = principal.current.get()
        await self._queries.readable_row(caller, request.run_id)
        await self._approvals.review(caller, request)
        return await self._queries.load(request.run_id)

    async def DiscardRun(self, request: rpc.DiscardRunRequest, context: Any) -> run_pb2.Run:
        caller = principal.current.get()
        await self._queries.writable_row(caller, request.run_id)
        return await self._stop(lambda tx: stop.discard(tx, caller, request))

    async def StartRun(self, request: rpc.StartRunRequest, context: Any) -> run_pb2.Run:
        return await self._starts.start(principal.current.get(), request)

    async def ConfirmRun(self, request: rpc.ConfirmRunRequest, context: Any) -> run_pb2.Run:
        caller = principal.current.get()
        await self._queries.writable_row(caller, request.run_id)
        await self._approvals.settle(request.run_id)
        stack_id = await self._db.write(lambda tx: confirm.confirm(tx, caller, request))
        self._notices.run_moved(request.run_id)
        self._notices.queue_changed(stack_id)
        return await self._queries.load(request.run_id)

    async def GetPlan(self, request: rpc.GetPlanRequest, context: Any) -> run_pb2.Plan:
        row = await self._queries.readable_row(principal.current.get(), request.run_id)
        return await self._queries.plan(row)

    async def AbandonRun(self, request: rpc.AbandonRunRequest, context: Any) -> run_pb2.Run:
        caller = principal.current.get()
        await self._queries.readable_row(caller, request.run_id)
        await self._abandonment.abandon(caller, request)
        return await self._queries.load(request.run_id)

    async def ReadLateOutput(
        self, request: rpc.ReadLateOutputRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[rpc.ReadLateOutputResponse]:
        row = await self._queries.readable_row(principal.current.get(), request.run_id)
        async for chunk in self._abandonment.late_output(row, request.output_offset):
            yield rpc.ReadLateOutputResponse(output=chunk)

    async def _stop(self, unit: Unit[stop.Stop]) -> run_pb2.Run:
        outcome = await self._db.write(unit)
        if outcome.ask_runner is not None:
            connection = self._connections.of_runner(outcome.runner_id)
            if connection is None:
                self._notices.stop_asked(outcome.run_id)
            else:
                asked = runner_rpc.StopRequest(assignment=outcome.ask_runner, reason="a caller asked for it")
                connection.send(runner_rpc.ConnectResponse(stop=asked))
        self._notices.run_moved(outcome.run_id)
        self._notices.queue_changed(outcome.stack_id)
        return await self._queries.load(outcome.run_id)
