"""A container engine that goes away under a runner: what performs goes on and loses nothing, what waits says why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import docker
import pytest

from interlock import types
from interlock.client import Client
from tests import house as houses
from tests.e2e.conftest import new_stack
from tests.faults.undisturbed import expected, grown, performing
from tests.holding import HOLD, containers_of, release
from tests.house import House, reached, watch
from tests.integration.runner.engine_line import EngineLine


@pytest.fixture
async def line(engine_url: str, short_tmp: Path) -> AsyncIterator[EngineLine]:
    """From the runner to its engine."""
    made = EngineLine(short_tmp / "engine.sock", engine_url)
    await made.open()
    yield made
    await made.cut()


@pytest.fixture
async def house(tmp_path: Path, line: EngineLine) -> AsyncIterator[House]:
    async with houses.opened(tmp_path, line.url) as made:
        await made.start_runner("one")
        yield made


async def test_a_run_waits_while_the_engine_is_away_says_why_and_starts_by_itself(
    house: House, line: EngineLine, client: Client, test_image: str
) -> None:
    stack = await new_stack(client, test_image)
    await line.cut()
    await house.runners["one"].logged("engine.away")
    run = await client.runs.create_task(stack.id, "echo performed")
    waiting = await waits(client, run.id)
    assert waiting.reason == types.WaitReason.WAIT_REASON_NO_CAPACITY
    assert "without its engine" in waiting.message
    await line.open()
    seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", b"performed\n")


@pytest.mark.slow
async def test_a_performing_task_whose_engine_is_cut_off_again_and_again_loses_no_byte(
    house: House, line: EngineLine, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    run = await performing(client, test_image)
    for _ in range(3):
        await grown(client, run.id)
        await line.cut()
        await line.open()
    await grown(client, run.id)
    release(docker_client, run.id)
    seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", expected(seen.output))


async def test_a_command_that_ends_while_the_engine_is_away_is_reported_when_it_is_back(
    house: House, line: EngineLine, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    run = await performing(client, test_image)
    await grown(client, run.id)
    await line.cut()
    [container] = containers_of(docker_client, run.id)
    release(docker_client, run.id)
    assert container.wait()["StatusCode"] == 0
    assert (await client.runs.get(run.id)).state == types.RunState.RUN_STATE_PERFORMING
    await line.open()
    seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", expected(seen.output))


async def test_an_engine_that_is_away_when_the_gate_opens_performs_the_command_once(
    house: House, line: EngineLine, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    stack = await new_stack(client, test_image, custom_init=[HOLD])
    run = await client.runs.create_task(stack.id, "echo performed")
    await reached(client, run.id, "INITIALIZING")
    await line.cut()
    release(docker_client, run.id)
    await line.open()
    seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", b"performed\n")


async def waits(client: Client, run_id: str) -> types.Waiting:
    """Why the run waits, once it says so."""
    async for event in client.runs.follow(run_id, output=False):
        if isinstance(event, types.Run) and event.HasField("waiting"):
            return event.waiting
    raise AssertionError(f"{run_id} never said that it waits")
