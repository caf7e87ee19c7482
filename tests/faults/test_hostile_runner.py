"""A runner that breaks the protocol harms its own stream at most."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import psutil
import pytest

from control_plane.ids import new_id
from interlock import types
from interlock.client import Client
from interlock.v1 import runner_service_pb2 as rpc
from tests import house as houses
from tests.e2e.conftest import new_stack
from tests.house import House, watch
from tests.scripted_runner import ScriptedRunner


@pytest.fixture
async def house(tmp_path: Path, engine_url: str) -> AsyncIterator[House]:
    """Without a real runner."""
    async with houses.opened(tmp_path, engine_url) as made:
        yield made


@pytest.fixture
async def runner(house: House, client: Client) -> AsyncIterator[ScriptedRunner]:
    """Connected, of the public pool."""
    token = await client.pools.create_token("public", name="scripted")
    async with ScriptedRunner(house.address, token.credential, new_id("rnr")) as made:
        await made.connect()
        yield made


async def performing(client: Client, runner: ScriptedRunner) -> rpc.Assignment:
    await client.runs.create_task((await new_stack(client)).id, "true")
    assignment = await runner.take()
    await runner.perform(assignment)
    return assignment


def finished(assignment: rpc.Assignment, output: bytes = b"") -> rpc.RunResult:
    return rpc.RunResult(
        assignment=assignment.assignment,
        outcome=rpc.RUN_OUTCOME_EXITED,
        exit_code=0,
        output_size_bytes=len(output),
        output_sha256=hashlib.sha256(output).hexdigest(),
    )


def output(assignment: rpc.Assignment, offset: int, data: bytes) -> rpc.OutputReport:
    return rpc.OutputReport(assignment=assignment.assignment, offset=offset, data=data)


async def test_what_it_sends_behind_a_result_does_not_stop_its_stream(
    client: Client, runner: ScriptedRunner
) -> None:
    over = await performing(client, runner)
    other = await performing(client, runner)
    whole = bytes(3 << 20)
    for offset in range(0, len(whole), 256 << 10):
        runner.send(output=output(over, offset, whole[offset : offset + (256 << 10)]))
    runner.send(result=finished(over, whole))
    for _ in range(500):
        runner.send(output=output(over, 0, b"too late"))
    runner.send(result=finished(other))
    async with asyncio.timeout(60):
        seen = await watch(client, other.assignment.run_id)
    assert seen.state == "FINISHED"


async def test_a_chunk_over_its_limit_is_refused(client: Client, runner: ScriptedRunner) -> None:
    assignment = await performing(client, runner)
    runner.send(output=output(assignment, 0, bytes(300 << 10)))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await runner.receive("output_ack")
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_result_with_another_outputs_hash_ends_nothing(
    client: Client, runner: ScriptedRunner
) -> None:
    assignment = await performing(client, runner)
    runner.send(output=output(assignment, 0, b"true"))
    runner.send(result=finished(assignment, b"fake"))
    rejected = (await runner.receive("rejected")).rejected
    assert (rejected.reason, rejected.release) == ("OUTPUT_MISMATCH", False)
    run = await client.runs.get(assignment.assignment.run_id)
    assert run.state == types.RunState.RUN_STATE_PERFORMING


async def test_a_message_that_says_nothing_known_is_passed_over(
    client: Client, runner: ScriptedRunner
) -> None:
    assignment = await performing(client, runner)
    runner.send()
    runner.send(hello=runner.hello)
    runner.send(phase=rpc.PhaseReport(assignment=assignment.assignment))
    runner.send(result=finished(assignment))
    assert (await watch(client, assignment.assignment.run_id)).state == "FINISHED"


async def test_one_that_sends_without_end_costs_no_memory(
    house: House, client: Client, runner: ScriptedRunner
) -> None:
    assignment = await performing(client, runner)
    server = psutil.Process(house.server.pid)
    before = server.memory_info().rss
    forged = rpc.AssignmentRef(
        run_id=assignment.assignment.run_id, assignment_id="asg_forged", fencing_token=1
    )
    for number in range(20_000):
        runner.send(output=rpc.OutputReport(assignment=forged, offset=number << 18, data=bytes(1 << 10)))
    runner.send(result=finished(assignment))
    await runner.receive("result_ack")
    assert server.memory_info().rss - before < 64 << 20
    await client.identity.get_caller()


async def test_a_copy_of_a_runners_folder_on_another_machine_does_not_end_what_it_performs(
    house: House, client: Client, runner: ScriptedRunner
) -> None:
    """Invariant 3: a new boot id is a proof only while nobody else is connected with the same runner id."""
    assignment = await performing(client, runner)
    async with ScriptedRunner(house.address, runner.hello.pool_token, runner.hello.runner_id) as copy:
        copy.hello.boot_id = "boot-of-another-machine"
        with pytest.raises(grpc.aio.AioRpcError, match="was its folder copied") as raised:
            await copy.connect()
    assert raised.value.code() is grpc.StatusCode.ALREADY_EXISTS
    run = await client.runs.get(assignment.assignment.run_id)
    assert run.state == types.RunState.RUN_STATE_PERFORMING
    runner.send(result=finished(assignment))
    assert (await watch(client, run.id)).state == "FINISHED"
