"""Invariant 2 at the gate: whatever happens in the moment in which it opens, the command is performed once or never,
and the record says which."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import signal
import time
from pathlib import Path

import docker

from control_plane.ids import new_id
from interlock import errors, types
from interlock.client import Client
from interlock.v1 import runner_service_pb2 as rpc
from tests.e2e.conftest import new_stack
from tests.faults.undisturbed import expected, grown, performing
from tests.holding import HOLD, containers_of, release
from tests.house import House, begun, reached, until, watch
from tests.scripted_runner import ScriptedRunner

SEED = 20261124
TRIES = 60


async def test_a_stop_in_the_moment_of_the_gate_wins_or_is_refused(house: House, client: Client) -> None:
    """Seeded: the two messages are sent within three milliseconds of each other, in either order."""
    rng = random.Random(SEED)
    pool = await client.pools.create("gate-race")
    token = await client.pools.create_token(pool.id, name="scripted")
    stack = await new_stack(client, pool_id=pool.id)
    outcomes: set[bool] = set()
    async with ScriptedRunner(house.address, token.credential, new_id("rnr")) as runner:
        await runner.connect()
        for _ in range(TRIES):
            run = await client.runs.create_task(stack.id, "true")
            assignment = await runner.take()
            runner.send(
                phase=rpc.PhaseReport(
                    assignment=assignment.assignment, phase=types.RunState.RUN_STATE_INITIALIZING
                )
            )
            await reached(client, run.id, "INITIALIZING")
            stopping = asyncio.create_task(stop_after(client, run.id, rng.uniform(0, 0.003)))
            await asyncio.sleep(rng.uniform(0, 0.003))
            runner.send(gate=rpc.GateRequest(assignment=assignment.assignment))
            went = (await runner.receive("gate")).gate.go
            assert await stopping is not went
            runner.send(result=result_of(assignment, went=went))
            seen = await watch(client, run.id)
            assert seen.state == ("FINISHED" if went else "STOPPED")
            states = [change.state for change in seen.run.history]
            assert (types.RunState.RUN_STATE_PERFORMING in states) is went
            outcomes.add(went)
    assert outcomes == {True, False}, "every try came out alike: change the delays"


async def test_a_runner_killed_when_it_has_heard_go_performs_the_command_once(
    house: House, client: Client, test_image: str
) -> None:
    runner = house.runners["one"]
    for _ in range(3):
        run = await client.runs.create_task((await new_stack(client, test_image)).id, "echo performed")
        await asyncio.to_thread(wait_for_stage, house.folder / "runner-one", "gate_passed")
        runner.kill()
        runner.start()
        seen = await watch(client, run.id)
        assert (seen.state, seen.output) == ("FINISHED", b"performed\n")


async def test_a_runner_killed_while_it_prepares_fails_the_run_frees_its_slot_and_leaves_no_container(
    house: House, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    runner = house.runners["one"]
    run = await client.runs.create_task((await new_stack(client, test_image)).id, "echo performed")
    await asyncio.to_thread(wait_for_stage, house.folder / "runner-one", "accepted")
    runner.kill()
    runner.start()
    seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FAILED", b"")
    assert "not performed" in seen.run.state_reason
    assert (await client.stacks.get(run.stack_id)).active_run_id == ""
    await until(lambda: not containers_of(docker_client, run.id), "the end of its container")


async def test_a_runner_killed_while_init_runs_goes_on_with_it_and_performs_once(
    house: House, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    stack = await new_stack(client, test_image, custom_init=[f"echo init; {HOLD}; echo done"])
    run = await client.runs.create_task(stack.id, "echo performed")
    await begun(client, run.id)
    house.runners["one"].kill()
    release(docker_client, run.id)
    house.runners["one"].start()
    seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", b"init\ndone\nperformed\n")


async def test_a_control_plane_killed_when_it_has_opened_the_gate_has_the_command_performed_once(
    house: House, client: Client, test_image: str
) -> None:
    for _ in range(3):
        run = await client.runs.create_task((await new_stack(client, test_image)).id, "echo performed")
        await house.server.logged("run.gate_opened")
        house.server.kill()
        await house.start_server()
        seen = await watch(client, run.id)
        assert (seen.state, seen.output) == ("FINISHED", b"performed\n")


async def test_a_runner_killed_between_the_commands_end_and_its_result_reports_it_later(
    house: House, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    run = await performing(client, test_image)
    await grown(client, run.id)
    runner = house.runners["one"]
    runner.signal(signal.SIGSTOP)
    [container] = containers_of(docker_client, run.id)
    release(docker_client, run.id)
    await asyncio.to_thread(container.wait)
    runner.kill()
    runner.start()
    seen = await watch(client, run.id)
    assert (seen.state, seen.output) == ("FINISHED", expected(seen.output))


async def stop_after(client: Client, run_id: str, delay_s: float) -> bool:
    """Whether the stop was taken."""
    await asyncio.sleep(delay_s)
    try:
        await client.runs.stop(run_id)
    except errors.FailedPrecondition:
        return False
    return True


def result_of(assignment: rpc.Assignment, *, went: bool) -> rpc.RunResult:
    return rpc.RunResult(
        assignment=assignment.assignment,
        outcome=rpc.RUN_OUTCOME_EXITED if went else rpc.RUN_OUTCOME_STOPPED,
        exit_code=0 if went else None,
        output_sha256=hashlib.sha256().hexdigest(),
    )


def wait_for_stage(folder: Path, stage: str) -> None:
    """Looks into the runner's journal without pause: the moment is short. Blocks."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for entry in folder.glob("assignments/*/journal.json"):
            if _stage(entry) == stage:
                return
    raise AssertionError(f"no assignment came to stage {stage}")


def _stage(entry: Path) -> str:
    try:
        return str(json.loads(entry.read_bytes())["stage"])
    except FileNotFoundError:
        return ""
