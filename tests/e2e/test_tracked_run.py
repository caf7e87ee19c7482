"""Tracked runs on real Terraform: planned, looked at, and applied exactly as they were confirmed, or discarded."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import docker
import pytest

from interlock import errors, types
from interlock.client import Client
from tests.e2e.conftest import new_stack
from tests.holding import HOLD, release
from tests.house import House, Watched, opened, reached, watch

MAIN = """\
variable "token" {
  type    = string
  default = "unset"
}
resource "terraform_data" "one" { input = "first" }
resource "terraform_data" "two" {
  for_each = toset([var.token])
  input    = "second"
}
"""
ADDRESSES = ["terraform_data.one", 'terraform_data.two["unset"]']


async def terraform_stack(client: Client, image: str, folder: Path, **options: object) -> str:
    stack = await new_stack(client, image, tool="terraform", **options)
    (folder / "main.tf").write_text(MAIN)
    await client.stacks.push(stack.id, folder)
    return stack.id


async def planned(client: Client, stack_id: str) -> types.Run:
    run = await client.runs.start(stack_id)
    return await reached(client, run.id, "UNCONFIRMED")


def cli(house: House, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "INTERLOCK_ADDRESS": house.address, "INTERLOCK_API_KEY": house.admin_key}
    command = [sys.executable, "-m", "interlock.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, check=False)


async def test_a_plan_is_shown_confirmed_and_applied(
    house: House, client: Client, test_image: str, tmp_path: Path
) -> None:
    stack_id = await terraform_stack(client, test_image, tmp_path)

    run = await planned(client, stack_id)
    plan = await client.runs.plan(run.id)
    await client.runs.confirm(run.id, "looks right")
    seen = await watch(client, run.id)

    assert (run.plan.has_changes, run.plan.add, run.plan.change, run.plan.destroy) == (True, 2, 0, 0)
    assert [change.address for change in plan.changes] == ADDRESSES
    assert seen.state == "FINISHED"
    assert [types.RunState.Name(change.state).removeprefix("RUN_STATE_") for change in seen.run.history] == [
        "QUEUED", "READY", "PREPARING", "INITIALIZING", "PLANNING", "UNCONFIRMED", "CONFIRMED", "APPLYING", "FINISHED",
    ]  # fmt: skip
    assert b"Plan: 2 to add" in seen.output
    assert seen.output.count(b"Apply complete! Resources: 2 added") == 1
    assert (seen.run.confirmation.caller.login, seen.run.confirmation.note) == ("admin", "looks right")


async def test_a_task_waits_while_a_plan_is_unconfirmed_and_a_discard_lets_it_go(
    client: Client, test_image: str, tmp_path: Path
) -> None:
    stack_id = await terraform_stack(client, test_image, tmp_path)
    run = await planned(client, stack_id)

    task = await client.runs.create_task(stack_id, "echo mine", skip_initialization=True)
    waiting = (await client.runs.get(task.id)).waiting
    discarded = await client.runs.discard(run.id, "not today")
    seen = await watch(client, task.id)

    assert f"tracked run {run.id} in UNCONFIRMED" in waiting.message
    assert types.RunState.Name(discarded.state) == "RUN_STATE_DISCARDED"
    assert seen.output == b"mine\n"
    with pytest.raises(errors.WrongState):
        await client.runs.confirm(run.id)


async def test_a_plan_without_changes_finishes_the_run(
    client: Client, test_image: str, tmp_path: Path
) -> None:
    stack = await new_stack(client, test_image, tool="terraform")
    (tmp_path / "main.tf").write_text('output "nothing" { value = null }\n')
    await client.stacks.push(stack.id, tmp_path)

    seen = await watch(client, (await client.runs.start(stack.id)).id)

    assert (seen.state, seen.run.plan.has_changes) == ("FINISHED", False)
    assert b"No changes." in seen.output


async def test_a_plan_that_fails_fails_the_run_and_frees_the_stack(
    client: Client, test_image: str, tmp_path: Path
) -> None:
    stack = await new_stack(client, test_image, tool="terraform")
    (tmp_path / "main.tf").write_text('resource "terraform_data" "one" { input = file("missing") }\n')
    await client.stacks.push(stack.id, tmp_path)

    seen = await watch(client, (await client.runs.start(stack.id)).id)

    assert (seen.state, types.RunFailure.Name(seen.run.failure)) == ("FAILED", "RUN_FAILURE_PLAN")
    assert b"Invalid function argument" in seen.output
    assert not (await client.stacks.get(stack.id)).active_run_id


async def test_own_commands_plan_and_apply_in_place_of_a_tools(client: Client, test_image: str) -> None:
    stack = await new_stack(
        client,
        test_image,
        custom_plan=['echo "what to do" > "$INTERLOCK_PLAN_DIR/plan"', "echo kept > kept"],
        custom_apply=['cat "$INTERLOCK_PLAN_DIR/plan" kept'],
        autodeploy=True,
        hooks=types.Hooks(before_apply=["echo before apply"], after_run=["echo over: $INTERLOCK_RUN_STATE"]),
    )

    seen = await watch(client, (await client.runs.start(stack.id)).id)

    assert seen.output == b"before apply\nwhat to do\nkept\nover: FINISHED\n"
    assert (seen.state, seen.run.plan.is_counted) == ("FINISHED", False)


async def test_a_plan_can_be_stopped(
    client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    stack = await new_stack(client, test_image, custom_plan=[HOLD], custom_apply=["echo applied"])
    run = await client.runs.start(stack.id)
    await reached(client, run.id, "PLANNING")

    await client.runs.stop(run.id)
    seen = await watch(client, run.id)

    assert seen.state == "STOPPED"
    assert b"applied" not in seen.output


async def test_secrets_are_masked_in_the_list_of_changes(
    client: Client, test_image: str, tmp_path: Path
) -> None:
    stack_id = await terraform_stack(client, test_image, tmp_path)
    await client.stacks.set_environment(stack_id, secrets={"TF_VAR_token": "s3cr3t-value"})

    plan = await client.runs.plan((await planned(client, stack_id)).id)

    assert [change.address for change in plan.changes] == ["terraform_data.one", 'terraform_data.two["***"]']


async def test_the_command_line_plans_lists_and_confirms(
    house: House, client: Client, test_image: str, tmp_path: Path
) -> None:
    stack_id = await terraform_stack(client, test_image, tmp_path)

    started = await asyncio.to_thread(cli, house, "run", "start", stack_id)
    run_id = (await anext(client.runs.list(stack_id=stack_id))).id
    listed = await asyncio.to_thread(cli, house, "run", "plan", run_id)
    as_json = await asyncio.to_thread(cli, house, "run", "plan", run_id, "-o", "json")
    confirmed = await asyncio.to_thread(cli, house, "run", "confirm", run_id)
    watched = await asyncio.to_thread(cli, house, "run", "watch", run_id)

    assert started.returncode == 0, started.stderr
    assert b"Plan: 2 to add" in started.stdout
    assert f"interlock run confirm {run_id}".encode() in started.stderr
    assert listed.stdout.decode().splitlines() == [f"create\t{address}" for address in ADDRESSES]
    assert json.loads(as_json.stdout)["summary"]["add"] == 2
    assert confirmed.returncode == 0
    assert (watched.returncode, b"Apply complete!" in watched.stdout) == (0, True)


@pytest.mark.parametrize("part", ["server", "runner"])
async def test_a_kill_while_a_plan_is_made_or_applied_costs_no_byte_and_applies_once(
    part: str, engine_url: str, test_image: str, tmp_path: Path, docker_client: docker.DockerClient
) -> None:
    async with opened(tmp_path, engine_url) as house:
        await house.start_runner("one")
        async with house.connect() as client:
            stack = await new_stack(
                client, test_image, custom_plan=["echo planning", HOLD], custom_apply=["echo applying", HOLD]
            )
            run = await client.runs.start(stack.id)
            await reached(client, run.id, "PLANNING")
            await _killed(house, part)
            release(docker_client, run.id)
            await reached(client, run.id, "UNCONFIRMED")
            await _killed(house, part)
            await client.runs.confirm(run.id)
            await reached(client, run.id, "APPLYING")
            await _killed(house, part)
            release(docker_client, run.id)
            seen: Watched = await watch(client, run.id)

    assert (seen.state, seen.output) == ("FINISHED", b"planning\napplying\n")


async def _killed(house: House, part: str) -> None:
    """Killed, and started again."""
    if part == "server":
        house.server.kill()
        await house.start_server()
    else:
        house.runners["one"].kill()
        house.runners["one"].start()
