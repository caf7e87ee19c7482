"""Invariants 2, 3 and 4 when the Docker Engine itself is restarted under a runner: with live-restore its containers go
on, and so do their runs; without, they are gone, and their runs say so and free their slots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest

from interlock import types
from interlock.client import Client
from tests import house as houses
from tests.e2e.conftest import new_stack
from tests.faults import private_engine
from tests.faults.private_engine import PrivateEngine
from tests.faults.undisturbed import expected, grown, performing
from tests.holding import HOLD, containers_of, release
from tests.house import House, begun, run_task, until, watch


@pytest.fixture
def live_restore(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def engine(
    short_tmp: Path, test_image: str, docker_client: docker.DockerClient, live_restore: bool
) -> Iterator[PrivateEngine]:
    with private_engine.started(short_tmp, test_image, docker_client, live_restore=live_restore) as made:
        yield made


@pytest.fixture
def private_client(engine: PrivateEngine) -> Iterator[docker.DockerClient]:
    with closing(docker.DockerClient(engine.url)) as client:
        yield client


@pytest.fixture
async def house(tmp_path: Path, engine: PrivateEngine) -> AsyncIterator[House]:
    async with houses.opened(tmp_path, engine.url) as made:
        async with made.connect() as admin:
            await admin.pools.update("public", container=types.ContainerOptions(network_mode="none"))
        await made.start_runner("one", INTERLOCK_RUNNER_WARM="0")
        yield made


@pytest.mark.parametrize("live_restore", [True], indirect=True)
async def test_with_live_restore_a_performing_task_is_not_disturbed_and_loses_no_byte(
    house: House,
    engine: PrivateEngine,
    client: Client,
    test_image: str,
    private_client: docker.DockerClient,
) -> None:
    run = await performing(client, test_image)
    for _ in range(2):
        await grown(client, run.id)
        await asyncio.to_thread(engine.stop)
        await asyncio.to_thread(engine.start)
    await grown(client, run.id)
    release(private_client, run.id)
    seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", expected(seen.output))


@pytest.mark.parametrize("live_restore", [False], indirect=True)
async def test_without_it_runs_end_with_their_containers_keep_what_they_wrote_and_free_their_slots(
    house: House,
    engine: PrivateEngine,
    client: Client,
    test_image: str,
    private_client: docker.DockerClient,
) -> None:
    performs = await client.runs.create_task(
        (await new_stack(client, test_image)).id, f"echo written; {HOLD}"
    )
    before_gate = await client.runs.create_task(
        (await new_stack(client, test_image, custom_init=[f"echo init; {HOLD}"])).id, "echo performed"
    )
    await begun(client, performs.id)
    await begun(client, before_gate.id)
    await asyncio.to_thread(engine.stop)
    await house.runners["one"].logged("engine.away")
    [runner] = [each async for each in client.pools.list_runners()]
    assert "does not answer" in runner.state_reason
    await asyncio.to_thread(engine.start)
    lost, failed = await watch(client, performs.id), await watch(client, before_gate.id)
    # The engine ends a container as `docker stop` does, so the command has an exit code: that of SIGTERM.
    assert (lost.state, lost.run.exit_code) == ("FAILED", 143)
    assert lost.output.startswith(b"written\n")
    assert failed.state == "FAILED"
    assert failed.output.startswith(b"init\n")
    assert "not performed" in failed.run.state_reason
    await until(
        lambda: (
            not containers_of(private_client, performs.id) + containers_of(private_client, before_gate.id)
        ),
        "the end of their containers",
    )
    assert (await run_task(client, performs.stack_id, "echo free")).output == b"free\n"
