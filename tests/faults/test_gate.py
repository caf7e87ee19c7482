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
STEP_S = 0.001
# Of the runner's journal, in order.
STAGES = ["accepted", "started", "gate_passed", "ended"]


async def test_a_stop_in_the_moment_of_the_gate_wins_or_is_refused(house: House, client: Client) -> None:
    """Seeded. Whoever won is held back a little more the next time, so that the two meet on any machine."""
    rng = random.Random(SEED)
    pool = await client.pools.create("gate-race")
    token = await client.pools.create_token(pool.id, name="scripted")
    stack = await new_stack(client, pool_id=pool.id)
    outcomes: list[bool] = []
    lead_s, step_s = 0.0, STEP_S
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
            ahead_s = lead_s + rng.uniform(-STEP_S, STEP_S)
            stopping = asyncio.create_task(stop_after(client, run.id, max(-ahead_s, 0)))
            await asyncio.sleep(max(ahead_s, 0))
            runner.send(gate=rpc.GateRequest(assignment=assignment.assignment))
            went = (await runner.receive("gate")).gate.go
            assert await stopping is not went
            runner.send(result=result_of(assignment, went=went))
            seen = await watch(client, run.id)
            assert seen.state == ("FINISHED" if went else "STOPPED")
            states = [change.state for change in seen.run.history]
            assert (types.RunState.RUN_STATE_PERFORMING in states) is went
            step_s = 2 * step_s if outcomes and outcomes[-1] is went else STEP_S
            lead_s += step_s if went else -step_s
            outcomes.append(went)
    assert set(outcomes) == {True, False}


async def test_a_runner_killed_when_it_has_heard_go_performs_the_command_once(
    house: House, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    runner = house.runners["one"]
    for _ in range(3):
        stack = await new_stack(client, test_image)
        run = await client.runs.create_task(stack.id, f"{HOLD}; echo performed")
        assert await asyncio.to_thread(is_met, house.folder / "runner-one", run.id, "gate_passed")
        runner.kill()
        runner.start()
        release(docker_client, run.id)
        seen = await watch(client, run.id)
        assert (seen.state, seen.output) == ("FINISHED", b"performed\n")


async def test_a_runner_killed_while_it_prepares_fails_the_run_frees_its_slot_and_leaves_no_container(
    house: House, client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    runner = house.runners["one"]
    stack = await new_stack(client, test_image)
    run = await client.runs.create_task(stack.id, "echo performed")
    while not await asyncio.to_thread(is_met, house.folder / "runner-one", run.id, "accepted"):
        # This machine looked too late: the container was there already.
        await watch(client, run.id)
        run = await client.runs.create_task(stack.id, "echo performed")
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


def is_met(folder: Path, run_id: str, stage: str) -> bool:
    """Looks into the runner's journal without pause until the run is at this stage: the moment may be short. False where
    it was missed. Blocks."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = _stage(folder, run_id)
        if found == stage:
            return True
        if found and STAGES.index(found) > STAGES.index(stage):
            return False
    raise AssertionError(f"{run_id} did not come to stage {stage}")


def _stage(folder: Path, run_id: str) -> str:
    """Empty while it is in no journal."""
    for entry in folder.glob("assignments/*/journal.json"):
        try:
            found = json.loads(entry.read_bytes())
        except FileNotFoundError:
            continue
        if found["run_id"] == run_id:
            return str(found["stage"])
    return ""
