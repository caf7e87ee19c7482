"""RunnerService over gRPC: admits runners, connects stream and desks, and serves source archives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import sqlalchemy as sa
import structlog

from control_plane import clock, errors
from control_plane.errors import ShuttingDown
from control_plane.identity.errors import BadCredentials
from control_plane.keys import Sealer
from control_plane.pools.admission import Admission, AnotherMachine, PoolTokenInfo
from control_plane.pools.connections import Connections, RunnerConnection
from control_plane.runs import assignments, store
from control_plane.runs.desk import Desks
from control_plane.runs.errors import FencedOut, ProtocolVersion, TakenOver
from control_plane.runs.kept import KeptPlans
from control_plane.runs.reach import Reach
from control_plane.runs.runner_stream import RunnerStream
from control_plane.runs.states import RunState
from control_plane.stacks.errors import SourceUnavailable
from control_plane.storage.archives import ArchiveStore
from control_plane.storage.database import Database
from interlock.v1 import runner_service_pb2 as rpc
from interlock.v1 import runner_service_pb2_grpc

PROTOCOL_VERSION = 1

log = structlog.get_logger(__name__)


class RunnerServicer(runner_service_pb2_grpc.RunnerServiceServicer):
    def __init__(
        self,
        db: Database,
        admission: Admission,
        connections: Connections,
        desks: Desks,
        reach: Reach,
        sealer: Sealer,
        archives: ArchiveStore,
        kept: KeptPlans,
    ) -> None:
        self._db = db
        self._admission = admission
        self._connections = connections
        self._desks = desks
        self._reach = reach
        self._sealer = sealer
        self._archives = archives
        self._kept = kept
        self._is_closing = False

    def close(self) -> None:
        """Asks every runner to connect again elsewhere and ends its stream."""
        self._is_closing = True
        for runner in self._connections.all():
            drain = rpc.DrainRequest(reconnect=True, reason="this server is shutting down")
            runner.send(rpc.ConnectResponse(drain=drain))
            runner.end(ShuttingDown())

    async def Connect(
        self,
        request_iterator: AsyncIterator[rpc.ConnectRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[rpc.ConnectResponse]:
        hello = await self._admit(request_iterator)
        token = await self._admission.authenticate(hello.pool_token)
        runner = await self._register(hello, token)
        # Not left to the end of this call: a runner that does not read holds that up for as long as it likes.
        runner.ended.add_done_callback(lambda _: self._part_with(runner))
        stream = RunnerStream(self._desks, self._reach, self._sealer, runner, request_iterator)
        try:
            for welcome in await stream.welcome(hello):
                yield rpc.ConnectResponse(welcome=welcome)
            log.info("runner.connected", runner_id=runner.runner_id, name=runner.name, held=len(hello.held))
            serving = asyncio.create_task(stream.serve())
            serving.add_done_callback(lambda _: runner.outgoing.put_nowait(None))
            try:
                while (message := await runner.outgoing.get()) is not None:
                    yield message
                await serving
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
            if runner.ended.done() and (error := runner.ended.result()) is not None:
                raise error if isinstance(error, errors.DomainError) else errors.Unavailable(str(error))
        finally:
            self._part_with(runner)
            await stream.close()
            self._leave_outputs(runner)

    async def FetchSource(
        self, request: rpc.FetchSourceRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[rpc.FetchSourceResponse]:
        token = await self._admission.authenticate(_bearer(context))
        run = await self._db.read(lambda tx: _run_of(tx, request.assignment, token.pool_id))
        if RunState(run.state) is RunState.CONFIRMED:
            async for chunk in self._kept.chunks(run.id):
                yield rpc.FetchSourceResponse(chunk=chunk)
            return
        try:
            async for chunk in self._archives.chunks(run.source_sha256):
                yield rpc.FetchSourceResponse(chunk=chunk)
        except FileNotFoundError as error:
            cause = f"the archive {run.source_sha256} is gone from where the server keeps them; push it again"
            raise SourceUnavailable(run.stack_id, cause) from error

    async def StorePlan(
        self,
        request_iterator: AsyncIterator[rpc.StorePlanRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> rpc.StorePlanResponse:
        token = await self._admission.authenticate(_bearer(context))
        first = await anext(aiter(request_iterator), None)
        if first is None or not first.HasField("assignment"):
            raise errors.InvalidField("assignment", "must be named by the first message")
        run = await self._db.read(lambda tx: _run_of(tx, first.assignment, token.pool_id))
        kept = await self._kept.take(run, (part.chunk async for part in request_iterator if part.chunk))
        return rpc.StorePlanResponse(sha256=kept.sha256, size_bytes=kept.size_bytes)

    async def _admit(self, requests: AsyncIterator[rpc.ConnectRequest]) -> rpc.Hello:
        if self._is_closing:
            raise ShuttingDown
        first = await anext(requests, None)
        if first is None or first.WhichOneof("message") != "hello":
            raise errors.InvalidField("hello", "the first message of a runner must be its hello")
        if first.hello.protocol_version != PROTOCOL_VERSION:
            raise ProtocolVersion(first.hello.protocol_version, PROTOCOL_VERSION)
        return first.hello

    def _leave_outputs(self, runner: RunnerConnection) -> None:
        """Its runs may go on at another replica, which reads what is on the disk."""
        is_back = self._connections.of_runner(runner.runner_id) is not None
        if not self._desks.replicas.is_alone and not is_back:
            for held in runner.active.values():
                self._desks.outputs.leave(held.run_id)

    def _part_with(self, runner: RunnerConnection) -> None:
        if self._connections.remove(runner):
            log.info("runner.disconnected", runner_id=runner.runner_id, name=runner.name)
            self._reach.lost(runner.runner_id, runner.epoch)

    async def _register(self, hello: rpc.Hello, token: PoolTokenInfo) -> RunnerConnection:
        now = clock.now_us()
        runner = RunnerConnection(
            runner_id=hello.runner_id,
            pool_id=token.pool_id,
            token_id=token.token_id,
            name=hello.name,
            version=hello.version,
            capacity=hello.capacity,
            boot_id=hello.boot_id,
            machine_id=hello.machine_id,
            last_seen_us=now,
            status=hello.status,
        )
        self._older(hello)
        await self._admission.record(hello, token, may_move=lambda tx: _may_move(tx, hello.runner_id))
        self._older(hello)
        await self._claim(runner, hello)
        superseded = self._connections.add(runner)
        if superseded is not None:
            superseded.end(TakenOver(hello.runner_id))
        return runner

    def _older(self, hello: rpc.Hello) -> RunnerConnection | None:
        """The runner's stream until now. Raises `AnotherMachine`."""
        older = self._connections.of_runner(hello.runner_id)
        if older is not None and older.boot_id != hello.boot_id:
            raise AnotherMachine(hello.runner_id)
        return older

    async def _claim(self, runner: RunnerConnection, hello: rpc.Hello) -> None:
        """Makes this the runner's one connection, over all replicas."""
        replicas = self._desks.replicas
        claim = await replicas.claim(
            runner.runner_id,
            pool_id=runner.pool_id,
            capacity=runner.capacity,
            boot_id=runner.boot_id,
            status=runner.status.SerializeToString(),
        )
        if claim is None:
            raise AnotherMachine(runner.runner_id)
        runner.epoch = claim.epoch
        older = self._connections.of_runner(runner.runner_id)
        if not replicas.is_alone and (older is None or older.epoch != claim.epoch - 1):
            # It was elsewhere meanwhile: what this replica remembers of its output is old.
            for held in hello.held:
                self._desks.outputs.leave(held.assignment.run_id)
        if claim.earlier_replica_id not in (None, replicas.id):
            self._desks.notices.taken_over(runner.runner_id, claim.epoch)


def _bearer(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value.startswith("Bearer "):
            return value.removeprefix("Bearer ")
    raise BadCredentials("pool token")


def _may_move(connection: sa.Connection, runner_id: str) -> bool:
    active = store.active_of_runner(connection, runner_id)
    return not any(RunState(run.state).has_passed_gate for run in active)


def _run_of(connection: sa.Connection, ref: rpc.AssignmentRef, pool_id: str) -> sa.Row[Any]:
    run = store.find(connection, ref.run_id)
    if run is None or run.pool_id != pool_id:
        raise FencedOut(ref.run_id, ref.assignment_id)
    return assignments.current(connection, ref, run.runner_id, hold=False)
