"""Replicas that are killed while tasks perform: runner and watchers go on at another one, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import docker
import pytest

from interlock import types
from tests import house as houses
from tests.databases import Databases
from tests.e2e.conftest import new_stack
from tests.holding import release
from tests.house import Part, Replicas, reached, until, watch

LEASE_S = "6"
# Numbered lines, so that a byte that is missing or comes twice is seen where it is.
LINES = 3000
COMMAND = f"""
echo performed
i=0
until [ -e /tmp/released ]; do
  if [ $i -lt {LINES} ]; then i=$((i+1)); echo "line $i of the output"; else sleep 0.05; fi
done
while [ $i -lt {LINES} ]; do i=$((i+1)); echo "line $i of the output"; done
"""


def expected() -> bytes:
    return b"performed\n" + b"".join(b"line %d of the output\n" % number for number in range(1, LINES + 1))


@pytest.fixture
async def replicas(
    tmp_path: Path, engine_url: str, test_image: str, databases: Databases
) -> AsyncIterator[Replicas]:
    with databases.migrated("postgresql") as url:
        async with houses.opened_together(
            tmp_path, engine_url, url, count=3, INTERLOCK_RUNNER_LEASE_S=LEASE_S
        ) as made:
            yield made


async def test_replicas_killed_in_turn_while_a_task_performs_cost_no_byte_and_no_second_execution(
    replicas: Replicas, test_image: str, docker_client: docker.DockerClient
) -> None:
    """Invariants 2 and 4; runner and watchers begin at the replica that is killed first."""
    runner = await replicas.start_runner("one")
    async with replicas.connect() as client:
        stack = await new_stack(client, test_image)
        run = await client.runs.create_task(stack.id, COMMAND)
        watching = [asyncio.create_task(watch(client, run.id)) for _ in range(3)]
        await reached(client, run.id, "PERFORMING")
        for number in (0, 1):
            replicas.houses[number].server.kill()
            await ready_again(runner, number + 2)
            await replicas.houses[number].start_server()
        release(docker_client, run.id)
        seen = await asyncio.gather(*watching)
        assert [one.state for one in seen] == ["FINISHED"] * 3
        assert [one.output for one in seen] == [expected()] * 3
        assert (await watch(client, run.id)).output == expected()
        events = [event async for event in client.audit.list(resource_id=run.id)]
        assert [event.action for event in events].count("run.performing") == 1


async def test_a_run_whose_replica_and_runner_die_together_is_shown_unreachable_and_keeps_its_slot(
    replicas: Replicas, test_image: str, docker_client: docker.DockerClient
) -> None:
    """Invariant 3: the others notice by the sign of life that does not come."""
    runner = await replicas.start_runner("one")
    async with replicas.houses[1].connect() as client:
        stack = await new_stack(client, test_image)
        run = await client.runs.create_task(stack.id, COMMAND)
        await reached(client, run.id, "PERFORMING")
        runner.kill()
        replicas.houses[0].server.kill()
        async for event in client.runs.follow(run.id, output=False):
            if isinstance(event, types.Run) and event.HasField("unreachable_since"):
                break
        pool = await client.pools.get("public")
        assert pool.connected_runners == 0
        runner.start()
        release(docker_client, run.id)
        seen = await watch(client, run.id)
        assert (seen.state, seen.output) == ("FINISHED", expected())


async def ready_again(runner: Part, times: int) -> None:
    """Returns once the runner was welcomed so often."""
    await until(lambda: runner.text().count("runner.ready") >= times, "the runner elsewhere", runner)
