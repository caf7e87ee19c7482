"""Two control planes on one PostgreSQL: whichever is asked, the answer is the same."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator

import docker
import grpc
import pytest

from control_plane.policies.combine import PolicyRef
from control_plane.policies.quarantine import Quarantine
from control_plane.storage.database import Database
from interlock import errors, types
from interlock.client import Client
from interlock.v1 import run_pb2
from interlock.v1 import runner_service_pb2 as rpc
from tests import house as houses
from tests.databases import Databases
from tests.e2e.conftest import new_stack
from tests.e2e.test_runner_protocol import result_of
from tests.holding import HOLD, release
from tests.house import House, Replicas, reached, run_task, watch
from tests.scripted_runner import ScriptedRunner


@pytest.fixture(scope="module")
async def replicas(
    tmp_path_factory: pytest.TempPathFactory, engine_url: str, test_image: str, databases: Databases
) -> AsyncIterator[Replicas]:
    """`here` has no runner; the one runner is connected to `there`."""
    with databases.migrated("postgresql") as url:
        folder = tmp_path_factory.mktemp("replicas")
        async with houses.opened_together(folder, engine_url, url, count=2) as made:
            await made.houses[1].start_runner("one", capacity=4)
            yield made


def cli(house: House, *arguments: str) -> str:
    """What the command says to people."""
    environment = {**os.environ, "INTERLOCK_ADDRESS": house.address, "INTERLOCK_API_KEY": house.admin_key}
    command = [sys.executable, "-m", "interlock.cli", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    return done.stdout + done.stderr


@pytest.fixture
async def here(replicas: Replicas) -> AsyncIterator[Client]:
    async with replicas.houses[0].connect() as client:
        yield client


@pytest.fixture
async def there(replicas: Replicas) -> AsyncIterator[Client]:
    async with replicas.houses[1].connect() as client:
        yield client


async def test_a_task_created_here_is_performed_by_a_runner_that_is_connected_there(
    here: Client, test_image: str
) -> None:
    stack = await new_stack(here, test_image)
    seen = await run_task(here, stack.id, "echo hello from there")
    assert seen.state == "FINISHED"
    assert b"hello from there" in seen.output


async def test_runners_of_every_replica_are_listed_by_each(here: Client, there: Client) -> None:
    for client in (here, there):
        [runner] = [runner async for runner in client.pools.list_runners()]
        assert runner.state == types.RunnerState.RUNNER_STATE_READY
        pool = await client.pools.get("public")
        assert (pool.connected_runners, pool.free_capacity) == (1, 4)


async def test_a_stop_asked_for_here_reaches_the_runner_there(here: Client, test_image: str) -> None:
    stack = await new_stack(here, test_image, hooks=types.Hooks(before_init=[HOLD]))
    run = await here.runs.create_task(stack.id, "true")
    await reached(here, run.id, "INITIALIZING")
    await here.runs.stop(run.id)
    assert (await watch(here, run.id)).state == "STOPPED"


async def test_a_watcher_here_sees_every_state_of_a_run_that_streams_there_as_it_comes(
    here: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    stack = await new_stack(here, test_image)
    run = await here.runs.create_task(stack.id, HOLD)
    watching = asyncio.create_task(watch(here, run.id))
    await reached(here, run.id, "PERFORMING")
    release(docker_client, run.id)
    seen = await asyncio.wait_for(watching, 20)
    assert seen.state == "FINISHED"
    assert "PERFORMING" in seen.states


async def test_a_policy_changed_there_counts_here_at_once(
    here: Client, there: Client, test_image: str
) -> None:
    stack = await new_stack(here, test_image)
    body = 'package spacelift\n\ndeny contains "not today" if input.request.command == "date"\n'
    policy = await there.policies.create("Not today", body, kind="task", labels=["autoattach:*"])
    try:
        with pytest.raises(errors.TaskDenied, match="not today"):
            await here.runs.create_task(stack.id, "date")
        await there.policies.update(policy.id, body=body.replace("not today", "nor tomorrow"))
        with pytest.raises(errors.TaskDenied, match="nor tomorrow"):
            await here.runs.create_task(stack.id, "date")
    finally:
        await there.policies.delete(policy.id)
    await here.runs.create_task(stack.id, "date")


async def test_a_policy_in_quarantine_refuses_here_and_there_until_it_is_released_on_either(
    here: Client, there: Client, replicas: Replicas
) -> None:
    stack = await new_stack(here)
    body = 'package spacelift\n\ndeny contains "x" if input.request.command == "rm"\n'
    made = await there.policies.create("Slow", body, kind="task")
    await there.policies.attach(made.id, stack.id)
    policy = PolicyRef(made.id, made.name, made.revision)
    db = Database(replicas.houses[0].environment["INTERLOCK_DATABASE_URL"])
    for _ in range(3):
        await Quarantine(db, on_change=lambda: None).overran(policy, "it takes more than 1.5 s")
    db.close()

    for client in (here, there):
        with pytest.raises(
            errors.PolicyFailed, match=r"Slow.*quarantined since .*an admin may update it or release it"
        ):
            await client.runs.create_task(stack.id, "true")
        assert (await client.policies.get(made.id)).quarantine.cause == "it takes more than 1.5 s"
    shown = [
        await asyncio.to_thread(cli, replicas.houses[0], "policy", *words)
        for words in (["list"], ["show", made.id])
    ]
    assert (
        await asyncio.to_thread(cli, replicas.houses[0], "policy", "release", made.id)
        == "policy slow is asked again\n"
    )

    assert all("it takes more than 1.5 s" in text for text in shown)
    for client in (here, there):
        assert (await client.runs.explain_task(stack.id, "true")).allowed


async def test_a_key_revoked_there_opens_nothing_here(
    here: Client, there: Client, replicas: Replicas
) -> None:
    made = await there.identity.create_key("Grace", admin=True)
    async with replicas.houses[0].connect(made.credential) as grace:
        await grace.identity.get_caller()
        await there.identity.revoke_key(made.api_key.id)
        await until_refused(grace)


async def until_refused(client: Client) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await client.identity.get_caller()
            except errors.Unauthenticated:
                return
            await asyncio.sleep(0.02)


async def test_a_runner_that_goes_from_one_to_the_other_and_back_is_heard_by_the_one_it_came_to_last(
    here: Client, there: Client, replicas: Replicas
) -> None:
    """Invariant 4, while both replicas live and the older streams have not broken."""
    pool = await here.pools.create("Wanderers")
    token = (await here.pools.create_token(pool.id)).credential
    stack = await new_stack(here, pool_id=pool.id)
    runner_id = f"rnr_{'wanderer':0>26}"
    at_first, elsewhere, back = (
        ScriptedRunner(replicas.houses[number].address, token, runner_id) for number in (0, 1, 0)
    )
    async with at_first, elsewhere, back:
        await at_first.connect()
        run = await there.runs.create_task(stack.id, "true")
        assignment = await at_first.take()
        await at_first.perform(assignment)
        ref = assignment.assignment
        await store(at_first, ref, 0, b"first here, ")
        assert [(await client.runs.get(run.id)).output_size_bytes for client in (here, there)] == [12, 12]

        await come_with(elsewhere, ref, expected_offset=12)
        assert await at_first.ended_with() is grpc.StatusCode.ALREADY_EXISTS
        await store(elsewhere, ref, 12, b"then there, ")

        await come_with(back, ref, expected_offset=24)
        await store(back, ref, 24, b"then here again")
        back.send(result=result_of(assignment, b"first here, then there, then here again"))
        await back.receive("result_ack")
    for client in (here, there):
        assert (await watch(client, run.id)).output == b"first here, then there, then here again"


async def come_with(runner: ScriptedRunner, ref: rpc.AssignmentRef, *, expected_offset: int) -> None:
    """Says hello with the one run that it performs."""
    runner.hello.held.add(assignment=ref, phase=run_pb2.RUN_STATE_PERFORMING)
    [verdict] = (await runner.connect()).held
    assert verdict.acknowledged_offset == expected_offset


async def store(runner: ScriptedRunner, ref: rpc.AssignmentRef, offset: int, data: bytes) -> None:
    """Sends output, and waits until it is durable."""
    runner.send(output=rpc.OutputReport(assignment=ref, offset=offset, data=data))
    while (await runner.receive("output_ack")).output_ack.acknowledged_offset < offset + len(data):
        pass


async def test_tasks_of_one_stack_that_are_created_at_both_run_one_after_the_other(
    here: Client, there: Client, test_image: str
) -> None:
    """Invariant 1, with two schedulers that both look."""
    stack = await new_stack(here, test_image)
    created = await asyncio.gather(
        *(client.runs.create_task(stack.id, "true") for _ in range(3) for client in (here, there))
    )
    ended = [(await watch(there, run.id)).run for run in created]
    assert {run.state for run in ended} == {types.RunState.RUN_STATE_FINISHED}
    spans = sorted((taken(run), run.finish_time.ToMicroseconds()) for run in ended)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert (await here.audit.verify()).intact


def taken(run: types.Run) -> int:
    """When it took the slot."""
    [time] = [change.change_time for change in run.history if change.state == types.RunState.RUN_STATE_READY]
    return time.ToMicroseconds()


async def test_a_slot_that_is_lent_here_is_renewed_and_let_go_of_there_and_goes_to_who_waits_there(
    here: Client, there: Client, test_image: str
) -> None:
    stack = await new_stack(here, test_image)
    queued = asyncio.Event()
    waiting = there.slots.hold(stack.id, on_change=lambda run: queued.set() if run.waiting.message else None)
    offered = types.Run()
    async for run in here.slots.acquire(stack.id):
        offered = run
    await there.slots.renew(offered.id, offered.fencing_token)
    entering = asyncio.create_task(waiting.__aenter__())
    await queued.wait()
    task = await here.runs.create_task(stack.id, "true", skip_initialization=True)
    await there.slots.release(offered.id)
    await entering
    assert (await here.stacks.get(stack.id)).slot_holder.run_id == waiting.run_id
    await waiting.__aexit__(None, None, None)
    done = await watch(here, task.id)
    assert [offered.fencing_token, waiting.fencing_token, done.run.fencing_token] == [1, 2, 3]
