"""Invariants 4 and 6: OPA, the database or a runner's disk goes away and comes back. What performs is not disturbed, what
is asked meanwhile is refused at once, and nobody has to do anything."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import docker
import psutil
import pytest

import interlock
from interlock import errors, types
from interlock.client import Client
from tests.e2e.conftest import new_stack
from tests.faults.undisturbed import expected, grown, performing
from tests.holding import containers_of, release
from tests.house import House, run_task, until, watch

POLICY = 'package spacelift\n\ndeny["never"] { input.request.command == "never" }\n'
IMPATIENT = interlock.Retry(give_up_after_s=0)


async def test_while_opa_is_frozen_or_killed_tasks_are_refused_with_the_reason_and_none_is_disturbed(
    house: House, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    await client.policies.create("none", POLICY, kind="task", labels=["autoattach:*"])
    run = await performing(client, test_image)
    stack = await new_stack(client, test_image)
    async with interlock.connect(house.address, api_key=house.admin_key, retry=IMPATIENT) as caller:
        opa = await opa_of(house)
        opa.suspend()
        with pytest.raises(errors.Unavailable) as frozen:
            await caller.runs.create_task(stack.id, "true")
        opa.resume()
        assert (await run_task(client, stack.id, "echo thawed")).output == b"thawed\n"
        (await opa_of(house)).kill()
        # The call waits for no restart that somebody would have to make: the client's patience is enough.
        assert (await run_task(client, stack.id, "echo back")).output == b"back\n"
    assert frozen.value.reason == "POLICY_ENGINE_UNAVAILABLE"
    assert "so the answer is no" in str(frozen.value)
    release(docker_client, run.id)
    seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", expected(seen.output))


async def test_while_the_database_is_away_calls_are_refused_with_a_hint_and_the_end_of_a_run_is_kept(
    house: House, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    run = await performing(client, test_image)
    stack = await new_stack(client, test_image)
    async with interlock.connect(house.address, api_key=house.admin_key, retry=IMPATIENT) as caller:
        await caller.stacks.get(stack.id)
        with held(house):
            with pytest.raises(errors.Unavailable) as refused:
                await caller.runs.create_task(stack.id, "true")
            await grown(client, run.id)
            [container] = containers_of(docker_client, run.id)
            release(docker_client, run.id)
            await asyncio.to_thread(container.wait)
            await house.server.logged("runner.report_waits")
            assert (await client.runs.get(run.id)).state == types.RunState.RUN_STATE_PERFORMING
    assert refused.value.reason == "DATABASE_UNAVAILABLE"
    assert refused.value.retry_after_s > 0
    seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", expected(seen.output))
    assert [each.command async for each in client.runs.list(stack_id=stack.id)] == []
    assert (await client.audit.verify()).intact


async def test_ten_restarts_of_the_runner_in_one_task_change_no_byte(
    house: House, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    run = await performing(client, test_image)
    watching = asyncio.create_task(watch(client, run.id))
    runner = house.runners["one"]
    for number in range(10):
        await grown(client, run.id, more=5_000)
        if number % 3 == 2:
            runner.signal(signal.SIGTERM)
            await runner.logged("runner.draining")
            runner.signal(signal.SIGTERM)
            assert await asyncio.to_thread(runner.wait) == 0
        else:
            runner.kill()
        runner.start()
        await runner.logged("runner.ready")
    await grown(client, run.id)
    release(docker_client, run.id)
    seen = await watching
    assert (seen.state, seen.output) == ("FINISHED", expected(seen.output))


async def opa_of(house: House) -> psutil.Process:
    """The one that decides; for a moment after a change there are two."""
    await until(lambda: len(_opas(house)) == 1, "one OPA")
    return _opas(house)[0]


def _opas(house: House) -> list[psutil.Process]:
    return [child for child in psutil.Process(house.server.pid).children() if "opa" in child.name()]


@contextmanager
def held(house: House) -> Iterator[None]:
    """Somebody else holds the database's file: nothing can be written."""
    other = sqlite3.connect(house.data_dir / "interlock.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()
