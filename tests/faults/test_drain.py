"""SIGTERM to a control plane in full work: every call is answered, or refused before it changed anything."""

from __future__ import annotations

import asyncio
import random
import signal
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import interlock
from control_plane.ids import new_id
from interlock import errors
from interlock.client import Client
from tests import house as houses
from tests.e2e.conftest import new_stack
from tests.house import House, until
from tests.scripted_runner import ScriptedRunner

CALLERS = 12
WATCHERS = 5
BEFORE_THE_SIGNAL = 60


@pytest.fixture
async def house(tmp_path: Path, engine_url: str) -> AsyncIterator[House]:
    """Without a real runner."""
    async with houses.opened(tmp_path, engine_url) as made:
        yield made


@dataclass
class Callers:
    """They call without pause and without patience, until the first refusal, and keep what they were answered."""

    client: Client
    stack_id: str
    folder: Path
    created: list[str] = field(default_factory=list)
    uploads: int = 0
    is_refused: bool = False

    async def create(self) -> None:
        while not self.is_refused:
            try:
                run = await self.client.runs.create_task(self.stack_id, f"echo {uuid.uuid4()}")
            except errors.Unavailable:
                self.is_refused = True
            else:
                self.created.append(run.command)

    async def push(self) -> None:
        while not self.is_refused:
            try:
                await self.client.stacks.push(self.stack_id, self.folder)
            except errors.Unavailable:
                return
            self.uploads += 1

    async def watch(self, run_id: str) -> str:
        """Why the stream ended."""
        with pytest.raises(errors.Unavailable) as raised:
            async for _ in self.client.runs.follow(run_id, give_up_after_s=0):
                pass
        return raised.value.reason


async def test_every_call_during_sigterm_is_answered_or_refused_before_any_change(
    house: House, client: Client, tmp_path: Path
) -> None:
    stack = await new_stack(client)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "main.tf").write_bytes(random.Random(1).randbytes(1 << 20))
    first = await client.runs.create_task(stack.id, "echo first")
    impatient = interlock.Retry(give_up_after_s=0)
    async with interlock.connect(house.address, api_key=house.admin_key, retry=impatient) as calling:
        callers = Callers(calling, stack.id, tmp_path / "source")
        async with asyncio.timeout(60), asyncio.TaskGroup() as calls:
            watching = [calls.create_task(callers.watch(first.id)) for _ in range(WATCHERS)]
            calls.create_task(until_not_serving(house.address))
            for _ in range(CALLERS):
                calls.create_task(callers.create())
            calls.create_task(callers.push())
            await until(
                lambda: len(callers.created) >= BEFORE_THE_SIGNAL and callers.uploads, "calls in full work"
            )
            house.server.signal(signal.SIGTERM)
    assert await asyncio.to_thread(house.server.wait) == 0
    assert {each.result() for each in watching} == {"SHUTTING_DOWN"}
    await house.start_server()
    kept = [run.command async for run in client.runs.list()]
    assert sorted(kept) == sorted(["echo first", *callers.created])
    assert (await client.audit.verify()).intact
    await client.stacks.push(stack.id, tmp_path / "source")


async def test_a_runner_is_told_to_dial_again_when_its_server_ends(house: House, client: Client) -> None:
    token = await client.pools.create_token("public", name="scripted")
    async with ScriptedRunner(house.address, token.credential, new_id("rnr")) as runner:
        await runner.connect()
        house.server.signal(signal.SIGTERM)
        drain = (await runner.receive("drain")).drain
        assert (drain.reconnect, "shutting down" in drain.reason) == (True, True)
    assert await asyncio.to_thread(house.server.wait) == 0


async def until_not_serving(address: str) -> None:
    """As a load balancer waits for it."""
    request = health_pb2.HealthCheckRequest(service="interlock.v1.RunService")
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        async for answer in stub.Watch(request):
            if answer.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                return
    raise AssertionError("the server went without a word")
