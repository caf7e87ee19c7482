"""Output in an object store: the store goes away and comes back, a runner moves between control planes that share
nothing but it and the database, and no byte is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import docker
import pytest

from interlock import errors, types
from interlock.client import Client
from scripts import objects
from tests import house as houses
from tests.databases import Databases
from tests.e2e.conftest import new_stack
from tests.faults.wire import Wire
from tests.holding import HOLD, containers_of, release
from tests.house import House, Replicas, begun, reached, run_task, until, watch

# Says that it began, waits for the word, then writes much.
COMMAND = f"echo begin; {HOLD}; seq 1 200000; echo end"
OUTPUT = b"begin\n" + b"".join(b"%d\n" % number for number in range(1, 200_001)) + b"end\n"


@pytest.fixture
async def wire(object_server: objects.Server) -> AsyncIterator[Wire]:
    """The way to the object store."""
    async with Wire(object_server.endpoint.removeprefix("http://")) as made:
        yield made


@pytest.fixture
async def house(
    tmp_path: Path, engine_url: str, object_server: objects.Server, wire: Wire
) -> AsyncIterator[House]:
    """A control plane on SQLite that keeps output in the object store."""
    environment = object_server.environment(f"http://{wire.address}")
    async with houses.opened(tmp_path, engine_url, **environment) as made:
        await made.start_runner("one")
        yield made


async def test_output_is_held_back_while_the_store_is_away_and_none_is_lost(
    wire: Wire, house: House, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    stack = await new_stack(client, test_image)
    run = await client.runs.create_task(stack.id, COMMAND)
    await begun(client, run.id)
    await wire.cut()
    release(docker_client, run.id)
    [container] = containers_of(docker_client, run.id)
    await house.server.logged("output.store_away")
    await house.server.logged("report_rejected")
    assert (await asyncio.to_thread(container.wait))["StatusCode"] == 0
    assert (await client.runs.get(run.id)).state == types.RunState.RUN_STATE_PERFORMING
    await wire.restore()
    seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", OUTPUT)
    await house.server.logged("output.store_back")
    assert not list((house.data_dir / "output").rglob("*.log"))


async def test_a_watcher_hears_when_to_come_back_while_the_store_is_away(
    wire: Wire, house: House, client: Client, test_image: str
) -> None:
    stack = await new_stack(client, test_image)
    seen = await run_task(client, stack.id, "echo stored")
    house.server.kill()
    await house.start_server()
    await wire.cut()
    with pytest.raises(errors.Unavailable) as raised:
        async for _ in client.runs.follow(seen.run.id, give_up_after_s=0.5):
            pass
    assert (raised.value.reason, raised.value.retry_after_s) == ("OBJECT_STORE_UNAVAILABLE", 2.0)
    await wire.restore()
    assert (await watch(client, seen.run.id)).output == b"stored\n"


async def test_a_control_plane_starts_while_the_store_is_away_and_goes_on_with_what_performs(
    wire: Wire, house: House, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    stack = await new_stack(client, test_image)
    run = await client.runs.create_task(stack.id, COMMAND)
    await begun(client, run.id)
    house.server.kill()
    await wire.cut()
    await house.start_server()
    await until(lambda: house.runners["one"].text().count("runner.ready") == 2, "the runner")
    release(docker_client, run.id)
    await house.server.logged("report_rejected")
    await wire.restore()
    seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", OUTPUT)


@pytest.fixture
async def replicas(
    tmp_path: Path, engine_url: str, databases: Databases, object_server: objects.Server
) -> AsyncIterator[Replicas]:
    """Two that share a database and a bucket, and no folder."""
    with databases.migrated("postgresql") as url:
        async with houses.opened_together(
            tmp_path,
            engine_url,
            url,
            count=2,
            INTERLOCK_SHARED_DIR="",
            INTERLOCK_RUNNER_LEASE_S="6",
            **object_server.environment(),
        ) as made:
            yield made


async def test_a_runner_moves_in_mid_task_and_watchers_follow_at_either_control_plane(
    replicas: Replicas, test_image: str, docker_client: docker.DockerClient, tmp_path: Path
) -> None:
    runner = await replicas.start_runner("one")
    first, second = replicas.houses
    async with replicas.connect() as client, second.connect() as elsewhere:
        stack = await new_stack(client, test_image)
        (tmp_path / "source").mkdir()
        (tmp_path / "source" / "hello").write_text("from the archive\n")
        await client.stacks.push(stack.id, tmp_path / "source")
        run = await client.runs.create_task(stack.id, f"cat hello; {COMMAND}")
        changing = asyncio.create_task(watch(client, run.id))
        following = asyncio.create_task(watch(elsewhere, run.id))
        # The runner is connected to the first, this watcher to the second.
        await begun(elsewhere, run.id)
        first.server.kill()
        await until(lambda: runner.text().count("runner.ready") == 2, "the runner elsewhere", runner)
        await first.start_server()
        release(docker_client, run.id)
        whole = b"from the archive\n" + OUTPUT
        for seen in await asyncio.gather(changing, following):
            assert (seen.state, seen.output) == ("FINISHED", whole)
        async with first.connect() as here:
            assert (await watch(here, run.id, offset=len(whole) - 7)).output == whole[-7:]
            assert (await reached(here, run.id, "FINISHED")).output_size_bytes == len(whole)


async def test_a_control_plane_with_another_place_for_output_is_refused(
    replicas: Replicas, object_server: objects.Server
) -> None:
    second = replicas.houses[1]
    second.server.stop()
    second.server.environment = {**second.server.environment, **object_server.environment()}
    second.server.start()
    assert second.server.wait() != 0
    assert "INTERLOCK_OBJECT_STORE_URL" in second.server.text()
