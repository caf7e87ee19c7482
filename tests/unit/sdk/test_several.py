"""Several addresses: replicas that answer alike, of which some are away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import interlock
from interlock.v1.run_pb2 import RUN_STATE_FINISHED, RUN_STATE_PERFORMING, RUN_STATE_QUEUED, Run
from interlock.v1.run_service_pb2 import (
    CreateTaskRequest,
    OutputChunk,
    WatchRunRequest,
    WatchRunResponse,
)
from tests.unit.sdk.scripted import RUN_ID, Context, Server


@pytest.fixture
async def servers(short_tmp: Path) -> AsyncIterator[list[Server]]:
    made = [Server(short_tmp / name) for name in ("a", "b", "c")]
    for server in made:
        server.does.create_task = queued
        await server.start()
    yield made
    for server in made:
        await server.stop()


def connect(servers: list[Server]) -> interlock.Client:
    return interlock.connect(",".join(server.address for server in servers), token="t")


async def queued(request: CreateTaskRequest, context: Context) -> Run:
    return Run(id=RUN_ID, state=RUN_STATE_QUEUED, command=request.command)


async def test_where_one_is_away_the_next_one_is_asked_with_the_same_request_id_and_stays_the_one(
    servers: list[Server],
) -> None:
    await servers[0].stop()
    async with connect(servers) as client:
        await client.runs.create_task("network", "true", request_id="once")
        await client.runs.create_task("network", "true")
    assert [len(server.does.tasks) for server in servers] == [0, 2, 0]
    assert servers[1].does.tasks[0].request_id == "once"


async def test_from_the_last_one_it_goes_on_at_the_first(servers: list[Server]) -> None:
    await servers[0].stop()
    async with connect(servers) as client:
        await client.runs.create_task("network", "true")
        await servers[1].stop()
        await servers[2].stop()
        await servers[0].start()
        await client.runs.create_task("network", "true")
    assert [len(server.does.tasks) for server in servers] == [1, 1, 0]


async def test_a_run_is_followed_on_the_next_one_from_the_byte_where_it_broke_off(
    servers: list[Server],
) -> None:
    async def breaks_off(request: WatchRunRequest, context: Context) -> AsyncIterator[WatchRunResponse]:
        yield WatchRunResponse(run=Run(id=RUN_ID, state=RUN_STATE_PERFORMING))
        yield WatchRunResponse(output=OutputChunk(offset=0, data=b"begun, "))
        await asyncio.Event().wait()

    async def goes_on(request: WatchRunRequest, context: Context) -> AsyncIterator[WatchRunResponse]:
        rest = b"begun, and done"[request.output_offset :]
        yield WatchRunResponse(output=OutputChunk(offset=request.output_offset, data=rest))
        yield WatchRunResponse(run=Run(id=RUN_ID, state=RUN_STATE_FINISHED, output_size_bytes=15))

    servers[0].does.watch_run = breaks_off
    servers[1].does.watch_run = goes_on
    seen = b""
    async with connect(servers) as client:
        async for event in client.runs.follow(RUN_ID):
            if isinstance(event, OutputChunk):
                seen += event.data
                # Not from within the call: a server that waits for its own handler may never end.
                await servers[0].stop()
    assert seen == b"begun, and done"
    assert [request.output_offset for request in servers[1].does.watches] == [7]
