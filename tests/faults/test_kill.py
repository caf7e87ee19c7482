"""Invariants 2, 3 and 4: any part is killed with SIGKILL while a task performs; it goes on, is performed once, and its
log is byte-exact. Every line that the task writes is numbered, so a lost or doubled byte is seen."""

from __future__ import annotations

import asyncio
import signal

import docker
import pytest

from interlock import errors, types
from interlock.client import Client
from tests.e2e.conftest import new_stack
from tests.faults.undisturbed import expected, grown, performing
from tests.holding import release
from tests.house import House, reached, watch


async def test_a_killed_control_plane_disturbs_no_task_and_loses_no_byte(
    house: House, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    run = await performing(client, test_image)
    watching = asyncio.create_task(watch(client, run.id))
    for _ in range(3):
        await grown(client, run.id)
        house.server.kill()
        await house.start_server()
        await house.runners["one"].logged("runner.ready")
    await grown(client, run.id)
    release(docker_client, run.id)
    seen = await watching
    assert seen.state == "FINISHED"
    assert seen.output == expected(seen.output)
    assert (await watch(client, run.id)).output == seen.output
    assert (await client.audit.verify()).intact


async def test_a_killed_runner_disturbs_no_task_and_loses_no_byte(
    house: House, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    run = await performing(client, test_image)
    watching = asyncio.create_task(watch(client, run.id))
    runner = house.runners["one"]
    for _ in range(3):
        await grown(client, run.id)
        runner.kill()
        runner.start()
        await runner.logged("runner.ready")
    await grown(client, run.id)
    release(docker_client, run.id)
    seen = await watching
    assert seen.state == "FINISHED"
    assert seen.output == expected(seen.output)


async def test_a_task_whose_runner_is_gone_stays_performing_and_keeps_its_slot(
    house: House, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    run = await performing(client, test_image)
    runner = house.runners["one"]
    runner.kill()
    async for event in client.runs.follow(run.id, output=False):
        if isinstance(event, types.Run) and event.HasField("unreachable_since"):
            break
    await house.start_runner("two")
    other = await client.runs.create_task(run.stack_id, "echo must wait")
    fails_before_gate = await _lost_before_its_gate(house, client, test_image)
    assert (await client.runs.get(fails_before_gate)).state == types.RunState.RUN_STATE_FAILED
    # By now the lease of the first runner is over too, and its run still holds the slot.
    seen = await client.runs.get(run.id)
    assert (seen.state, seen.HasField("unreachable_since")) == (types.RunState.RUN_STATE_PERFORMING, True)
    assert (await client.stacks.get(run.stack_id)).active_run_id == run.id
    assert (await client.runs.get(other.id)).waiting.blocking_run_id == run.id
    runner.start()
    await runner.logged("runner.ready")
    release(docker_client, run.id)
    finished = await watch(client, run.id)
    assert (finished.state, finished.output) == ("FINISHED", expected(finished.output))
    assert (await watch(client, other.id)).output == b"must wait\n"


async def test_a_task_whose_runner_is_lost_before_the_gate_fails_and_is_not_performed(
    house: House, client: Client, test_image: str
) -> None:
    run_id = await _lost_before_its_gate(house, client, test_image, runner="one")
    run = await client.runs.get(run_id)
    assert run.failure == types.RunFailure.RUN_FAILURE_RUNNER_LOST
    assert "not performed" in run.state_reason
    assert (await client.stacks.get(run.stack_id)).active_run_id == ""


async def test_a_frozen_runner_is_found_and_goes_on_when_it_thaws(
    house: House, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    run = await performing(client, test_image)
    runner = house.runners["one"]
    runner.signal(signal.SIGSTOP)
    release(docker_client, run.id)
    runner.signal(signal.SIGCONT)
    seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", expected(seen.output))


async def test_a_killed_client_disturbs_nothing(
    house: House, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    run = await performing(client, test_image)
    async with house.connect() as other:
        leaving = asyncio.create_task(watch(other, run.id))
        await grown(client, run.id)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
    release(docker_client, run.id)
    seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", expected(seen.output))


async def test_an_accepted_task_survives_the_death_of_the_server_right_after_the_answer(
    house: House, client: Client, test_image: str
) -> None:
    stack = await new_stack(client, test_image)
    house.runners["one"].kill()
    runs = [await client.runs.create_task(stack.id, f"echo {number}") for number in range(5)]
    house.server.kill()
    await house.start_server()
    await house.start_runner("two")
    outputs = [(await watch(client, run.id)).output for run in runs]
    assert outputs == [b"%d\n" % number for number in range(5)]


async def test_two_control_planes_on_one_data_folder_are_refused(house: House, engine_url: str) -> None:
    second = House(house.folder, engine_url)
    second.server.log = house.folder / "second.log"
    second.server.start()
    assert second.server.process is not None
    assert await asyncio.to_thread(second.server.process.wait) == 1
    assert "another control plane uses" in second.server.text()


async def test_a_stopped_server_tells_watchers_and_runners_and_they_come_back(
    house: House, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    run = await performing(client, test_image)
    watching = asyncio.create_task(watch(client, run.id))
    await grown(client, run.id)
    assert await asyncio.to_thread(house.server.stop) == 0
    await house.start_server()
    await grown(client, run.id)
    release(docker_client, run.id)
    seen = await watching
    assert seen.output == expected(seen.output)


async def _lost_before_its_gate(house: House, client: Client, image: str, *, runner: str = "two") -> str:
    """A run that initialises on this runner when the runner is killed; returns once it is over."""
    stack = await new_stack(client, image, custom_init=["sleep 600"])
    run = await client.runs.create_task(stack.id, "echo performed")
    await reached(client, run.id, "INITIALIZING")
    house.runners[runner].kill()
    seen = await watch(client, run.id)
    assert b"performed" not in seen.output
    await house.start_runner("three")
    return run.id


async def test_a_call_while_the_server_is_away_fails_at_once_or_waits_as_the_caller_wishes(
    house: House, test_image: str
) -> None:
    house.server.kill()
    async with house.connect() as patient:
        waiting = asyncio.create_task(patient.identity.get_caller())
        await house.start_server()
        assert (await waiting).login == "admin"
    with pytest.raises(errors.NotFound):
        async with house.connect() as back:
            await back.stacks.get("nothing-here")
