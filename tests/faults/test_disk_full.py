"""A disk that is really full, on either side: what cannot be kept is refused or held back, and nothing is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import docker
import grpc
import pytest

from interlock import errors, types
from interlock.client import Client
from tests import house as houses
from tests.e2e.conftest import new_stack
from tests.faults import small_disk
from tests.faults.small_disk import SmallDisk
from tests.holding import HOLD, containers_of, release
from tests.house import House, begun, reached, run_task, watch

MANY_LINES = b"".join(b"%d\n" % number for number in range(1, 200_001))
# Says that it began, waits for the word, then writes much.
COMMAND = f"echo begin; {HOLD}; seq 1 200000; echo end"
OUTPUT = b"begin\n" + MANY_LINES + b"end\n"
# Held back and told again each second.
SOON_S = 60


@pytest.fixture
def server_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """All that the control plane writes goes here."""
    with small_disk.mounted(tmp_path / "server") as disk:
        yield disk


@pytest.fixture
def output_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Only the control plane's output of runs goes here."""
    with small_disk.mounted(tmp_path / "server" / "output") as disk:
        yield disk


@pytest.fixture
def runner_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """All that runner "one" writes goes here."""
    with small_disk.mounted(tmp_path / "runner-one") as disk:
        yield disk


@pytest.fixture
async def house(tmp_path: Path, engine_url: str) -> AsyncIterator[House]:
    """Ask for the disk first."""
    async with houses.opened(tmp_path, engine_url, INTERLOCK_RUNNER_LEASE_S="2") as made:
        await made.start_runner("one")
        yield made


async def fill_database(client: Client) -> None:
    """What is left of the database's journal takes a few more writes."""
    for _ in range(3000):
        try:
            await new_stack(client)
        except errors.ResourceExhausted:
            return
    raise AssertionError("the disk never became full")


async def shown_without_room(client: Client) -> None:
    """Returns once the control plane knows, and gives the runner nothing new."""
    async with asyncio.timeout(SOON_S):
        while True:
            [shown] = [each async for each in client.pools.list_runners()]
            if "no room for output" in shown.state_reason:
                return
            await asyncio.sleep(0.05)


async def test_a_task_is_refused_while_the_servers_disk_is_full_and_nothing_changed(
    server_disk: SmallDisk, house: House, client: Client
) -> None:
    house.runners["one"].kill()
    stack = await new_stack(client)
    server_disk.fill()
    await fill_database(client)
    with pytest.raises(errors.ResourceExhausted, match="disk is full; nothing was changed") as raised:
        await client.runs.create_task(stack.id, "true")
    assert (raised.value.code, raised.value.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
    assert [run.id async for run in client.runs.list(stack_id=stack.id)] == []
    server_disk.empty()
    created = await client.runs.create_task(stack.id, "true")
    assert [run.id async for run in client.runs.list(stack_id=stack.id)] == [created.id]
    assert (await client.audit.verify()).intact


async def test_a_task_at_its_gate_goes_on_when_the_servers_disk_has_room_again(
    server_disk: SmallDisk,
    house: House,
    client: Client,
    test_image: str,
    docker_client: docker.DockerClient,
) -> None:
    stack = await new_stack(client, test_image, custom_init=[f"{HOLD}; echo initialised"])
    run = await client.runs.create_task(stack.id, "echo performed")
    await reached(client, run.id, "INITIALIZING")
    server_disk.fill()
    await fill_database(client)
    release(docker_client, run.id)
    await house.server.logged("runner.report_rejected")
    server_disk.empty()
    async with asyncio.timeout(SOON_S):
        seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", b"initialised\nperformed\n")


async def test_output_is_held_back_while_the_servers_disk_is_full_and_none_is_lost(
    server_disk: SmallDisk,
    house: House,
    client: Client,
    test_image: str,
    docker_client: docker.DockerClient,
) -> None:
    stack = await new_stack(client, test_image)
    run = await client.runs.create_task(stack.id, COMMAND)
    await begun(client, run.id)
    server_disk.fill()
    release(docker_client, run.id)
    [container] = containers_of(docker_client, run.id)
    await house.server.logged("output.disk_full")
    assert (await asyncio.to_thread(container.wait))["StatusCode"] == 0
    assert (await client.runs.get(run.id)).state == types.RunState.RUN_STATE_PERFORMING
    server_disk.empty()
    async with asyncio.timeout(SOON_S):
        seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", OUTPUT)


async def test_a_new_run_waits_for_room_on_the_servers_disk_and_disturbs_no_other(
    output_disk: SmallDisk,
    house: House,
    client: Client,
    test_image: str,
    docker_client: docker.DockerClient,
) -> None:
    performing = await client.runs.create_task((await new_stack(client, test_image)).id, COMMAND)
    await begun(client, performing.id)
    output_disk.fill()
    new = await client.runs.create_task((await new_stack(client, test_image)).id, "echo new")
    await house.server.logged("report_rejected")
    assert "runner.disconnected" not in house.server.text()
    output_disk.empty()
    release(docker_client, performing.id)
    async with asyncio.timeout(SOON_S):
        seen = [await watch(client, new.id), await watch(client, performing.id)]
    assert [(each.state, each.output) for each in seen] == [("FINISHED", b"new\n"), ("FINISHED", OUTPUT)]


async def test_an_upload_is_refused_while_the_servers_disk_is_full(
    server_disk: SmallDisk, house: House, client: Client, tmp_path: Path
) -> None:
    stack = await new_stack(client)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "big").write_bytes(bytes(range(256)) * 4096)
    server_disk.fill()
    with pytest.raises(errors.ResourceExhausted) as raised:
        await client.stacks.push(stack.id, tmp_path / "source")
    assert raised.value.reason == "DISK_FULL"
    server_disk.empty()
    await client.stacks.push(stack.id, tmp_path / "source")


async def test_output_is_held_back_while_the_runners_disk_is_full_and_the_command_goes_on_later(
    runner_disk: SmallDisk,
    house: House,
    client: Client,
    test_image: str,
    docker_client: docker.DockerClient,
) -> None:
    run = await client.runs.create_task((await new_stack(client, test_image)).id, COMMAND)
    await begun(client, run.id)
    runner_disk.fill()
    release(docker_client, run.id)
    await house.runners["one"].logged("run.held_back")
    await shown_without_room(client)
    waiting = await client.runs.create_task((await new_stack(client, test_image)).id, "echo later")
    async with asyncio.timeout(SOON_S):
        async for event in client.runs.follow(waiting.id, output=False):
            if isinstance(event, types.Run) and event.waiting.message:
                break
    runner_disk.empty()
    async with asyncio.timeout(SOON_S):
        seen = await watch(client, run.id)
        later = await watch(client, waiting.id)
    assert (seen.state, seen.output) == ("FINISHED", OUTPUT)
    assert (later.state, later.output) == ("FINISHED", b"later\n")


async def test_a_run_that_comes_while_the_runners_disk_is_full_waits_and_disturbs_no_other(
    runner_disk: SmallDisk,
    house: House,
    client: Client,
    test_image: str,
    docker_client: docker.DockerClient,
) -> None:
    performing = await client.runs.create_task((await new_stack(client, test_image)).id, COMMAND)
    await begun(client, performing.id)
    runner_disk.fill()
    new = await client.runs.create_task((await new_stack(client, test_image)).id, "echo new")
    await house.runners["one"].logged("journal.unwritable")
    release(docker_client, performing.id)
    await house.runners["one"].logged("run.held_back")
    # No container without its entry in the journal: a crash now would leave it behind.
    assert containers_of(docker_client, new.id) == []
    runner_disk.empty()
    async with asyncio.timeout(SOON_S):
        seen = [await watch(client, new.id), await watch(client, performing.id)]
    assert [(each.state, each.output) for each in seen] == [("FINISHED", b"new\n"), ("FINISHED", OUTPUT)]


async def test_a_runner_that_starts_again_on_a_full_disk_goes_on_with_what_it_held(
    runner_disk: SmallDisk,
    house: House,
    client: Client,
    test_image: str,
    docker_client: docker.DockerClient,
) -> None:
    run = await client.runs.create_task((await new_stack(client, test_image)).id, COMMAND)
    await begun(client, run.id)
    house.runners["one"].kill()
    runner_disk.fill()
    house.runners["one"].start()
    await house.runners["one"].logged("runner.ready")
    release(docker_client, run.id)
    await house.runners["one"].logged("run.held_back")
    await shown_without_room(client)
    runner_disk.empty()
    async with asyncio.timeout(SOON_S):
        seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", OUTPUT)


async def test_a_source_for_which_the_runner_has_no_room_fails_its_run_and_no_other(
    runner_disk: SmallDisk, house: House, client: Client, test_image: str, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "big").write_bytes(random.Random(1).randbytes(20 << 20))
    stack = await new_stack(client, test_image)
    await client.stacks.push(stack.id, tmp_path / "source")
    async with asyncio.timeout(SOON_S):
        seen = await run_task(client, stack.id, "echo performed")
    assert (seen.state, seen.output) == ("FAILED", b"")
    assert seen.run.failure == types.RunFailure.RUN_FAILURE_PREPARATION
    assert "runner's disk: No space left" in seen.run.state_reason
    assert (await run_task(client, (await new_stack(client, test_image)).id, "echo on")).output == b"on\n"
