"""Callers that take much and give nothing: the control plane's memory stays bounded, and it answers others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import psutil
import pytest

from control_plane.ids import new_id
from interlock.client import Client
from interlock.v1 import (
    identity_service_pb2,
    identity_service_pb2_grpc,
    run_service_pb2,
    run_service_pb2_grpc,
)
from interlock.v1 import runner_service_pb2 as rpc
from tests import house as houses
from tests.e2e.conftest import new_stack
from tests.house import House, until
from tests.scripted_runner import ScriptedRunner

CHUNK = bytes(range(256)) * 1024
CHUNKS = 80
LITTLE = 48 << 20
Metadata = tuple[tuple[str, str], ...]


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory, engine_url: str) -> AsyncIterator[House]:
    """Without a real runner; none of these tests may harm it."""
    async with houses.opened(tmp_path_factory.mktemp("callers"), engine_url) as made:
        yield made


@pytest.fixture
async def runner(house: House, client: Client) -> AsyncIterator[ScriptedRunner]:
    token = await client.pools.create_token("public", name="scripted")
    async with ScriptedRunner(house.address, token.credential, new_id("rnr")) as made:
        await made.connect()
        yield made


@pytest.fixture
async def run_id(client: Client, runner: ScriptedRunner) -> str:
    """A run that performs and has written 20 MiB."""
    await client.runs.create_task((await new_stack(client)).id, "true")
    assignment = await runner.take()
    await runner.perform(assignment)
    for number in range(CHUNKS):
        report = rpc.OutputReport(assignment=assignment.assignment, offset=number * len(CHUNK), data=CHUNK)
        runner.send(output=report)
    while (await runner.receive("output_ack")).output_ack.acknowledged_offset < CHUNKS * len(CHUNK):
        pass
    return assignment.assignment.run_id


@pytest.fixture
async def bearer(house: House) -> Metadata:
    key_id, _, secret = house.admin_key.partition(".")
    async with grpc.aio.insecure_channel(house.address) as channel:
        request = identity_service_pb2.ExchangeApiKeyRequest(key_id=key_id, secret=secret)
        token = await identity_service_pb2_grpc.IdentityServiceStub(channel).ExchangeApiKey(request)
    return (("authorization", f"Bearer {token.access_token}"),)


def memory(house: House) -> int:
    return int(psutil.Process(house.server.pid).memory_info().rss)


async def watchers(
    house: House,
    run_id: str,
    bearer: Metadata,
    many: int,
    stack: AsyncExitStack,
    *,
    omit_output: bool = False,
) -> list[Any]:
    """Calls on 20 connections, each told of the run; nothing more is read of them."""
    channels = [
        await stack.enter_async_context(
            grpc.aio.insecure_channel(house.address, options=[("grpc.use_local_subchannel_pool", 1)])
        )
        for _ in range(min(many, 20))
    ]
    request = run_service_pb2.WatchRunRequest(run_id=run_id, omit_output=omit_output)
    calls = []
    for number in range(many):
        stub = run_service_pb2_grpc.RunServiceStub(channels[number % len(channels)])
        calls.append(stub.WatchRun(request, metadata=bearer))
    await asyncio.gather(*(call.read() for call in calls))
    return calls


async def test_watchers_that_never_read_cost_little_memory(
    house: House, client: Client, run_id: str, bearer: Metadata
) -> None:
    before = memory(house)
    async with AsyncExitStack() as stack:
        await watchers(house, run_id, bearer, 100, stack)
        for _ in range(20):
            await client.runs.get(run_id)
        # Less than 2 MiB each, of the 20 that each could read.
        assert memory(house) - before < 100 * (2 << 20)


async def test_a_thousand_watchers_that_come_and_leave_again_and_again_leave_nothing_behind(
    house: House, client: Client, run_id: str, bearer: Metadata
) -> None:
    server = psutil.Process(house.server.pid)
    files = server.num_fds()
    sizes = []
    for _ in range(4):
        async with AsyncExitStack() as stack:
            for call in await watchers(house, run_id, bearer, 1000, stack, omit_output=True):
                call.cancel()
        await client.runs.get(run_id)
        sizes.append(memory(house))
    await until(lambda: server.num_fds() <= files + 2, "closed connections")
    assert sizes[-1] - sizes[0] < LITTLE, sizes


@pytest.mark.parametrize("size_bytes", [100_000, 1_000_000])
async def test_huge_metadata_is_refused_and_harms_nobody(
    house: House, client: Client, bearer: Metadata, size_bytes: int
) -> None:
    async with grpc.aio.insecure_channel(house.address) as channel:
        stub = identity_service_pb2_grpc.IdentityServiceStub(channel)
        request = identity_service_pb2.GetCallerRequest()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.GetCaller(request, metadata=(*bearer, ("x-much", "x" * size_bytes)), timeout=20)
    assert raised.value.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
    await client.identity.get_caller()
