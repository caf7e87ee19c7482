"""PostgreSQL killed while a task performs: callers are told at once, runner and container know nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import docker
import pytest

import interlock
from interlock import errors
from interlock.retry import NEVER
from scripts import postgres
from tests import house as houses
from tests.e2e.conftest import new_stack
from tests.holding import HOLD, release
from tests.house import House, reached, watch


@pytest.fixture
def cluster() -> Iterator[postgres.Cluster]:
    with postgres.running() as made:
        yield made


@pytest.fixture
async def house(
    tmp_path: Path, engine_url: str, test_image: str, cluster: postgres.Cluster
) -> AsyncIterator[House]:
    async with houses.opened(tmp_path, engine_url, INTERLOCK_DATABASE_URL=cluster.url()) as made:
        await made.start_runner("one")
        yield made


async def test_a_database_that_is_killed_costs_a_performing_task_nothing(
    house: House, cluster: postgres.Cluster, docker_client: docker.DockerClient, test_image: str
) -> None:
    """Invariant 4; the result waits for the database, and so does the slot."""
    async with house.connect() as client:
        stack = await new_stack(client, test_image)
        run = await client.runs.create_task(stack.id, f"echo begun; {HOLD}; echo ended")
        await reached(client, run.id, "PERFORMING")
        watching = asyncio.create_task(watch(client, run.id))
        cluster.kill()
        async with interlock.connect(house.address, api_key=house.admin_key, retry=NEVER) as hasty:
            with pytest.raises(errors.Unavailable) as caught:
                await hasty.runs.get(run.id)
            assert caught.value.retry_after_s > 0
        release(docker_client, run.id)
        await house.server.logged("runner.report_waits")
        cluster.start()
        seen = await asyncio.wait_for(watching, 60)
        assert (seen.state, seen.output) == ("FINISHED", b"begun\nended\n")
        assert (await client.audit.verify()).intact
