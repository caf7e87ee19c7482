"""Invariants 2, 3 and 4: a network that fails between runner, control plane and watcher loses no byte of a log,
starts no command twice, and none whose run was given up before its gate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import docker
import pytest

import interlock
from interlock import types
from interlock.client import Client
from tests import house as houses
from tests.e2e.conftest import new_stack
from tests.faults.undisturbed import expected, grown, performing
from tests.faults.wire import Wire
from tests.holding import HOLD, containers_of, release
from tests.house import House, reached, until, watch

# 30 s, and what a busy machine takes to say so.
FOUND_WITHIN_S = 40
RESETS = pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])


@pytest.fixture
async def served(tmp_path: Path, engine_url: str) -> AsyncIterator[House]:
    """Without a runner; one that is away for two seconds is lost."""
    async with houses.opened(tmp_path, engine_url, INTERLOCK_RUNNER_LEASE_S="2") as made:
        yield made


@pytest.fixture
async def wire(served: House) -> AsyncIterator[Wire]:
    """From the runner to the control plane."""
    async with Wire(served.address) as made:
        yield made


@pytest.fixture
async def house(served: House, wire: Wire) -> House:
    await served.start_runner("one", INTERLOCK_ADDRESS=wire.address)
    return served


@RESETS
async def test_a_runner_that_is_cut_off_again_and_again_loses_no_byte(
    house: House, wire: Wire, client: Client, test_image: str, docker_client: docker.DockerClient, reset: bool
) -> None:
    run = await performing(client, test_image)
    watching = asyncio.create_task(watch(client, run.id))
    for _ in range(5):
        await grown(client, run.id)
        await wire.cut(reset=reset)
        await wire.restore()
    await grown(client, run.id)
    release(docker_client, run.id)
    seen = await watching
    assert (seen.state, seen.output) == ("FINISHED", expected(seen.output))


async def test_a_task_that_ends_while_its_runner_is_cut_off_is_reported_when_it_is_back(
    house: House, wire: Wire, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    run = await performing(client, test_image)
    await grown(client, run.id)
    await wire.cut()
    release(docker_client, run.id)
    await house.runners["one"].logged("run.ended")
    assert (await client.runs.get(run.id)).state == types.RunState.RUN_STATE_PERFORMING
    await wire.restore()
    seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", expected(seen.output))


async def test_a_run_that_is_lost_before_its_gate_is_not_performed_though_its_runner_lives(
    house: House, wire: Wire, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    stack = await new_stack(client, test_image, custom_init=[HOLD])
    run = await client.runs.create_task(stack.id, "echo performed")
    await reached(client, run.id, "INITIALIZING")
    await wire.cut()
    release(docker_client, run.id)
    seen = await watch(client, run.id)
    assert (seen.state, seen.run.failure) == ("FAILED", types.RunFailure.RUN_FAILURE_RUNNER_LOST)
    await wire.restore()
    await house.runners["one"].logged("run.released")
    await until(lambda: not containers_of(docker_client, run.id), "the end of its container")
    assert b"performed" not in (await watch(client, run.id)).output


async def test_a_go_that_never_arrived_is_given_again_and_the_command_performed_once(
    house: House, wire: Wire, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    stack = await new_stack(client, test_image, custom_init=[HOLD])
    run = await client.runs.create_task(stack.id, "echo performed")
    await reached(client, run.id, "INITIALIZING")
    wire.hold(to_target=False)
    release(docker_client, run.id)
    await house.server.logged("run.gate_opened")
    await wire.cut()
    assert (await unreachable(client, run.id)).state == types.RunState.RUN_STATE_PERFORMING
    await wire.restore()
    seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", b"performed\n")


async def test_a_command_whose_run_was_abandoned_meanwhile_goes_on_and_its_masked_output_becomes_evidence(
    house: House, wire: Wire, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    run = await performing(client, test_image)
    await grown(client, run.id)
    await wire.cut()
    await unreachable(client, run.id)
    abandoned = await client.runs.abandon(run.id, reason="the network is down")
    await wire.restore()
    async with asyncio.timeout(60):
        while not (await client.runs.get(run.id)).HasField("late_evidence"):
            await asyncio.sleep(0.05)
    release(docker_client, run.id)
    async with asyncio.timeout(60):
        while not (later := await client.runs.get(run.id)).late_evidence.HasField("report_time"):
            await asyncio.sleep(0.05)
    assert (later.state, later.late_evidence.exit_code) == (abandoned.state, 0)
    own = (await watch(client, run.id)).output
    late = b"".join([chunk.data async for chunk in client.runs.late_output(run.id)])
    assert len(own) == abandoned.output_size_bytes
    assert own + late == expected(own + late)


@RESETS
async def test_a_watcher_that_is_cut_off_again_and_again_sees_every_byte_once(
    house: House, client: Client, test_image: str, docker_client: docker.DockerClient, reset: bool
) -> None:
    run = await performing(client, test_image)
    async with Wire(house.address) as near, interlock.connect(near.address, api_key=house.admin_key) as far:
        watching = asyncio.create_task(watch(far, run.id))
        for _ in range(5):
            await grown(client, run.id)
            await near.cut(reset=reset)
            await near.restore()
        await grown(client, run.id)
        release(docker_client, run.id)
        seen = await watching
        assert (seen.state, seen.output) == ("FINISHED", expected(seen.output))


@pytest.mark.slow
async def test_a_network_that_swallows_everything_is_noticed_and_loses_nothing(
    house: House, wire: Wire, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    run = await performing(client, test_image)
    await grown(client, run.id)
    wire.hold()
    async with asyncio.timeout(FOUND_WITHIN_S):
        await unreachable(client, run.id)
        await house.runners["one"].logged("runner.disconnected")
    release(docker_client, run.id)
    await wire.restore()
    seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", expected(seen.output))


async def unreachable(client: Client, run_id: str) -> types.Run:
    """Returns once the run's runner is known to be away."""
    async for event in client.runs.follow(run_id, output=False):
        if isinstance(event, types.Run) and event.HasField("unreachable_since"):
            return event
    raise AssertionError(f"{run_id} ended and its runner was never missed")
