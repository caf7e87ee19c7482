"""A runner that speaks the protocol by hand and has no container: for what a real one would never send."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import grpc

from interlock.v1 import runner_service_pb2 as rpc
from interlock.v1.runner_service_pb2_grpc import RunnerServiceStub


class ScriptedRunner:
    """One stream. `send` writes, `receive` gives the next answer of a kind."""

    def __init__(self, address: str, pool_token: str, runner_id: str) -> None:
        self.hello = rpc.Hello(
            pool_token=pool_token,
            protocol_version=1,
            version="test",
            runner_id=runner_id,
            name="scripted",
            capacity=10,
            boot_id="boot-1",
            machine_id="machine-1",
        )
        self._channel = grpc.aio.insecure_channel(address)
        self._to_send: asyncio.Queue[rpc.ConnectRequest] = asyncio.Queue()
        self._answers: Any = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._answers is not None:
            self._answers.cancel()
        await self._channel.close()

    async def connect(self) -> rpc.Welcome:
        """Says hello. Raises AioRpcError where the server will not have it."""
        self._answers = RunnerServiceStub(self._channel).Connect(self._messages())
        self.send(hello=self.hello)
        return (await self.receive("welcome")).welcome

    def disconnect(self) -> None:
        """As a network that breaks: `connect` dials again."""
        self._answers.cancel()
        self._to_send = asyncio.Queue()

    def send(self, **message: Any) -> None:
        self._to_send.put_nowait(rpc.ConnectRequest(**message))

    async def receive(self, kind: str) -> rpc.ConnectResponse:
        """The next answer of this kind; others are passed over."""
        async with asyncio.timeout(60):
            while True:
                answer = await self._answers.read()
                if answer is grpc.aio.EOF:
                    raise AssertionError(f"the stream ended before {kind}; {await self._answers.code()}")
                if answer.WhichOneof("message") == kind:
                    return answer  # type: ignore[no-any-return]

    async def ended_with(self) -> grpc.StatusCode:
        """The status of the stream, once the server has ended it; what it says before is passed over."""
        async with asyncio.timeout(60):
            with contextlib.suppress(grpc.aio.AioRpcError):
                while await self._answers.read() is not grpc.aio.EOF:
                    pass
            return await self._answers.code()  # type: ignore[no-any-return]

    async def take(self) -> rpc.Assignment:
        """The next assignment, accepted."""
        assignment = (await self.receive("assignment")).assignment
        self.send(accepted=rpc.AssignmentAccepted(assignment=assignment.assignment))
        return assignment

    async def perform(self, assignment: rpc.Assignment) -> None:
        """Through the gate."""
        self.send(gate=rpc.GateRequest(assignment=assignment.assignment))
        assert (await self.receive("gate")).gate.go

    async def _messages(self) -> AsyncIterator[rpc.ConnectRequest]:
        while True:
            yield await self._to_send.get()
