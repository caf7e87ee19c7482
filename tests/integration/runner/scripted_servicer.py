"""A control plane for tests of the runner's protocol: one runner, everything that it says kept, answers as told."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from interlock.v1 import run_pb2, runner_service_pb2_grpc
from interlock.v1 import runner_service_pb2 as rpc

WITHIN_S = 60


@dataclass
class Assigned:
    """One assignment, as the control plane sees it."""

    ref: rpc.AssignmentRef
    job: rpc.Job
    output: bytearray = field(default_factory=bytearray)
    said: list[str] = field(default_factory=list)
    gate_open: bool = False
    result: rpc.RunResult | None = None

    @property
    def text(self) -> str:
        return self.output.decode()

    def verdict(self) -> rpc.HeldVerdict:
        if self.result is not None:
            return rpc.HeldVerdict(assignment=self.ref, action=rpc.HELD_ACTION_RELEASE, reason="it is over")
        return rpc.HeldVerdict(
            assignment=self.ref,
            action=rpc.HELD_ACTION_CONTINUE,
            acknowledged_offset=len(self.output),
            acknowledged_sha256=hashlib.sha256(self.output).hexdigest(),
            gate_open=self.gate_open,
            job=self.job,
        )


class ScriptedControlPlane(runner_service_pb2_grpc.RunnerServiceServicer):
    def __init__(self) -> None:
        self.hellos: list[rpc.Hello] = []
        self.statuses: list[rpc.RunnerStatus] = []
        self.assigned: dict[str, Assigned] = {}
        self.archives: dict[str, bytes] = {}
        self.heartbeats = 0
        self.heartbeat_interval_ms = 10_000
        self.answer_gates = True
        self.acknowledge = True
        self.refuse_output = False
        self.refuse_hello: grpc.StatusCode | None = None
        self.refused = 0
        self.port = 0
        self._server: grpc.aio.Server | None = None
        self._outgoing: asyncio.Queue[rpc.ConnectResponse | None] | None = None
        self._changed = asyncio.Condition()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self, credentials: grpc.ServerCredentials | None = None) -> None:
        """On the same port as before. Plaintext without credentials."""
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        runner_service_pb2_grpc.add_RunnerServiceServicer_to_server(self, server)
        address = f"127.0.0.1:{self.port}"
        if credentials is None:
            self.port = server.add_insecure_port(address)
        else:
            self.port = server.add_secure_port(address, credentials)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            await self._server.wait_for_termination()
            self._server = None

    def assign(self, job: rpc.Job, number: int = 1) -> Assigned:
        # Containers are named after their runs, and those of an earlier test may not be gone yet.
        suffix = f"{secrets.token_hex(8)}{number}"
        ref = rpc.AssignmentRef(run_id=f"run_{suffix}", assignment_id=f"asg_{suffix}", fencing_token=number)
        assigned = self.assigned[ref.assignment_id] = Assigned(ref, job)
        self.send(rpc.ConnectResponse(assignment=rpc.Assignment(assignment=ref, job=job)))
        return assigned

    def send(self, message: rpc.ConnectResponse) -> None:
        assert self._outgoing is not None, "no runner is connected"
        self._outgoing.put_nowait(message)

    def open_gate(self, assigned: Assigned) -> None:
        assigned.gate_open = True
        self.send(rpc.ConnectResponse(gate=rpc.GateAnswer(assignment=assigned.ref, go=True)))

    def acknowledge_output(self, assigned: Assigned) -> None:
        ack = rpc.OutputAck(assignment=assigned.ref, acknowledged_offset=len(assigned.output))
        self.send(rpc.ConnectResponse(output_ack=ack))

    def cut(self) -> None:
        """Ends the runner's stream."""
        assert self._outgoing is not None
        self._outgoing.put_nowait(None)

    async def until(self, is_so: Callable[[], bool], within_s: float = WITHIN_S) -> None:
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(is_so)

    async def connected(self, times: int = 1) -> None:
        await self.until(lambda: len(self.hellos) >= times and self._outgoing is not None)

    async def ended(self, assigned: Assigned) -> rpc.RunResult:
        await self.until(lambda: assigned.result is not None)
        assert assigned.result is not None
        assert assigned.result.output_size_bytes == len(assigned.output)
        assert assigned.result.output_sha256 == hashlib.sha256(assigned.output).hexdigest()
        return assigned.result

    async def Connect(
        self, request_iterator: AsyncIterator[rpc.ConnectRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[rpc.ConnectResponse]:
        hello = (await anext(request_iterator)).hello
        if self.refuse_hello is not None:
            self.refused += 1
            await self._notify()
            await context.abort(self.refuse_hello, "refused by the test")
        outgoing: asyncio.Queue[rpc.ConnectResponse | None] = asyncio.Queue()
        known = self.assigned
        verdicts = [
            known[held.assignment.assignment_id].verdict()
            if held.assignment.assignment_id in known
            else rpc.HeldVerdict(assignment=held.assignment, action=rpc.HELD_ACTION_RELEASE)
            for held in hello.held
        ]
        welcome = rpc.Welcome(
            runner_id=hello.runner_id,
            pool_id="public",
            heartbeat_interval_ms=self.heartbeat_interval_ms,
            held=verdicts,
        )
        yield rpc.ConnectResponse(welcome=welcome)
        self._outgoing = outgoing
        self.hellos.append(hello)
        self.statuses.append(hello.status)
        await self._notify()
        reading = asyncio.create_task(self._read(request_iterator, outgoing))
        try:
            while (message := await outgoing.get()) is not None:
                yield message
        finally:
            reading.cancel()
            if self._outgoing is outgoing:
                self._outgoing = None

    async def FetchSource(
        self, request: rpc.FetchSourceRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[rpc.FetchSourceResponse]:
        job = self.assigned[request.assignment.assignment_id].job
        archive = self.archives[job.kept_plan.sha256 or job.source.archive.sha256]
        for start in range(0, len(archive), 256 << 10):
            yield rpc.FetchSourceResponse(chunk=archive[start : start + (256 << 10)])

    async def StorePlan(
        self,
        request_iterator: AsyncIterator[rpc.StorePlanRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> rpc.StorePlanResponse:
        kept = b"".join([part.chunk async for part in request_iterator])
        sha256 = hashlib.sha256(kept).hexdigest()
        self.archives[sha256] = kept
        return rpc.StorePlanResponse(sha256=sha256, size_bytes=len(kept))

    async def _read(
        self, requests: AsyncIterator[rpc.ConnectRequest], outgoing: asyncio.Queue[rpc.ConnectResponse | None]
    ) -> None:
        async for message in requests:
            kind = message.WhichOneof("message")
            if kind == "heartbeat":
                self.heartbeats += 1
            elif kind == "status":
                self.statuses.append(message.status)
            elif kind is not None and kind != "hello":
                assigned = self.assigned[getattr(message, kind).assignment.assignment_id]
                for answer in self._answers(kind, message, assigned):
                    outgoing.put_nowait(answer)
            await self._notify()

    def _answers(
        self, kind: str, message: rpc.ConnectRequest, assigned: Assigned
    ) -> list[rpc.ConnectResponse]:
        ref = assigned.ref
        match kind:
            case "phase":
                assigned.said.append(run_pb2.RunState.Name(message.phase.phase))
            case "output" if self.refuse_output:
                assigned.said.append("refused")
                size = len(assigned.output)
                full = rpc.Rejected(
                    assignment=ref, reason="DISK_FULL", message="full", acknowledged_offset=size
                )
                return [rpc.ConnectResponse(rejected=full)]
            case "output":
                report = message.output
                assert report.offset <= len(assigned.output), "a gap"
                known = assigned.output[report.offset :]
                assert report.data[: len(known)] == known[: len(report.data)], "other bytes than before"
                assigned.output += report.data[len(known) :]
                if self.acknowledge:
                    ack = rpc.OutputAck(assignment=ref, acknowledged_offset=len(assigned.output))
                    return [rpc.ConnectResponse(output_ack=ack)]
            case "gate":
                assigned.said.append("gate")
                if self.answer_gates or assigned.gate_open:
                    assigned.gate_open = True
                    return [rpc.ConnectResponse(gate=rpc.GateAnswer(assignment=ref, go=True))]
            case "result":
                assigned.said.append("result")
                assigned.result = message.result
                return [rpc.ConnectResponse(result_ack=rpc.ResultAck(assignment=ref))]
            case _:
                assigned.said.append(kind)
        return []

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
