"""Who may do what, and invariant 6: where policies cannot be asked, the answer is no."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

import interlock
from interlock import errors
from interlock.client import Client
from interlock.retry import NEVER
from tests import house as houses
from tests.e2e.conftest import new_id, new_stack
from tests.house import House

WRITERS = """package spacelift
import rego.v1
write if "ops" in input.session.teams
read if "audit" in input.session.teams
"""
NO_DESTROY = """package spacelift

deny["destroy needs a pull request"] { contains(input.request.command, "destroy") }
"""


@pytest.fixture(scope="module")
async def strict(tmp_path_factory: pytest.TempPathFactory, engine_url: str) -> AsyncIterator[House]:
    """A house of its own: its OPA is killed, and policies for everybody are attached."""
    async with houses.opened(tmp_path_factory.mktemp("strict"), engine_url) as house:
        async with house.connect() as admin:
            await admin.policies.create("teams", kind="access", body=WRITERS, labels=["autoattach:teams"])
            await admin.policies.create("no destroy", kind="task", body=NO_DESTROY, labels=["autoattach:*"])
        yield house


@pytest.fixture
async def boss(strict: House) -> AsyncIterator[Client]:
    async with strict.connect() as client:
        yield client


async def member(house: House, boss: Client, *teams: str) -> Client:
    """A client with a new key of these teams."""
    key = await boss.identity.create_key(new_id("member"), teams=teams)
    return house.connect(key.credential)


async def test_a_writer_by_policy_may_create_a_task(strict: House, boss: Client) -> None:
    stack = await new_stack(boss, labels=["teams"])
    async with await member(strict, boss, "ops") as writer:
        assert (await writer.runs.create_task(stack.id, "true")).creator.login.startswith("member")


async def test_a_reader_may_look_and_not_trigger(strict: House, boss: Client) -> None:
    stack = await new_stack(boss, labels=["teams"])
    async with await member(strict, boss, "audit") as reader:
        await reader.stacks.get(stack.id)
        with pytest.raises(errors.PermissionDenied, match="may read stack"):
            await reader.runs.create_task(stack.id, "true")
        with pytest.raises(errors.PermissionDenied):
            await reader.stacks.lock(stack.id)
    assert [run async for run in boss.runs.list(stack_id=stack.id)] == []


async def test_a_task_refused_by_access_is_in_the_audit_log_with_its_caller(
    strict: House, boss: Client
) -> None:
    stack = await new_stack(boss, labels=["teams"])
    async with await member(strict, boss, "audit") as reader, await member(strict, boss) as stranger:
        logins = [(await each.identity.get_caller()).login for each in (stranger, reader)]
        with pytest.raises(errors.PermissionDenied):
            await reader.runs.create_task(stack.id, "echo mine")
        with pytest.raises(errors.NotFound):
            await stranger.runs.create_task(stack.id, "echo mine")
    refusals = [event async for event in boss.audit.list(stack_id=stack.id, action="task.denied")]
    assert [event.caller.login for event in refusals] == logins
    assert all("echo mine" in event.details_json for event in refusals)


async def test_who_may_not_read_a_stack_cannot_tell_that_it_is_there(strict: House, boss: Client) -> None:
    stack = await new_stack(boss, labels=["teams"])
    run = await boss.runs.create_task(stack.id, "true")
    async with await member(strict, boss) as stranger:
        for call in (stranger.stacks.get(stack.id), stranger.runs.create_task(stack.id, "true")):
            with pytest.raises(errors.NotFound):
                await call
        with pytest.raises(errors.NotFound, match=run.id):
            await stranger.runs.get(run.id)
        assert [seen async for seen in stranger.stacks.list()] == []
        assert [seen async for seen in stranger.runs.list()] == []


async def test_without_an_access_policy_only_admins_have_access(strict: House, boss: Client) -> None:
    stack = await new_stack(boss)
    async with await member(strict, boss, "ops") as writer:
        with pytest.raises(errors.NotFound):
            await writer.runs.create_task(stack.id, "true")


async def test_only_admins_make_stacks_policies_keys_abandon_runs_and_read_the_audit_log(
    strict: House, boss: Client
) -> None:
    run = await boss.runs.create_task((await new_stack(boss, labels=["teams"])).id, "true")
    async with await member(strict, boss, "ops") as writer:
        for call in (
            writer.stacks.create("mine", image="x", tool="custom"),
            writer.policies.create("mine", kind="task", body=NO_DESTROY),
            writer.identity.create_key("friend"),
            writer.pools.create_token("public", name="mine"),
            writer.audit.verify(),
            writer.runs.abandon(run.id, reason="mine"),
        ):
            with pytest.raises(errors.PermissionDenied, match="only an admin may"):
                await call


async def test_a_denied_task_has_the_policys_message_and_a_recorded_decision(boss: Client) -> None:
    stack = await new_stack(boss)
    with pytest.raises(errors.TaskDenied) as raised:
        await boss.runs.create_task(stack.id, "terraform destroy")
    assert raised.value.messages == ("destroy needs a pull request",)
    [denial] = [event async for event in boss.audit.list(stack_id=stack.id, action="task.denied")]
    assert raised.value.decision_id in denial.details_json
    assert [run async for run in boss.runs.list(stack_id=stack.id)] == []


async def test_a_policy_attached_by_hand_counts_from_the_next_call_on(boss: Client) -> None:
    stack, other = await new_stack(boss), await new_stack(boss)
    body = 'package spacelift\nimport rego.v1\ndeny contains "frozen"\n'
    policy = await boss.policies.create(new_id("freeze"), kind="task", body=body)
    await boss.runs.create_task(stack.id, "true")
    await boss.policies.attach(policy.id, stack.id)
    with pytest.raises(errors.TaskDenied, match="frozen"):
        await boss.runs.create_task(stack.id, "true")
    await boss.runs.create_task(other.id, "true")
    await boss.policies.detach(policy.id, stack.id)
    await boss.runs.create_task(stack.id, "true")


async def test_a_changed_policy_counts_from_the_next_call_on(boss: Client) -> None:
    stack = await new_stack(boss)
    rule = 'package spacelift\nimport rego.v1\ndeny contains "no {0}" if input.request.command == "{0}"\n'
    policy = await boss.policies.create(new_id("words"), kind="task", body=rule.format("one"))
    await boss.policies.attach(policy.id, stack.id)
    changed = await boss.policies.update(policy.id, body=rule.format("two"))
    assert changed.revision == 2
    await boss.runs.create_task(stack.id, "one")
    with pytest.raises(errors.TaskDenied, match="no two"):
        await boss.runs.create_task(stack.id, "two")


async def test_a_policy_can_tell_a_secret_by_its_checksum(boss: Client) -> None:
    stack = await new_stack(boss)
    await boss.stacks.set_environment(stack.id, secrets={"TOKEN": "the-secret-itself"})
    [variable] = (await boss.stacks.get_environment(stack.id)).variables
    rule = f'deny contains "a secret on the command line" if sanitized(input.request.command) == "{variable.checksum}"'
    policy = await boss.policies.create(
        new_id("leaks"), kind="task", body=f"package spacelift\nimport rego.v1\n{rule}\n"
    )
    await boss.policies.attach(policy.id, stack.id)
    await boss.runs.create_task(stack.id, "something else")
    with pytest.raises(errors.TaskDenied, match="a secret on the command line"):
        await boss.runs.create_task(stack.id, "the-secret-itself")


async def test_a_refused_policy_names_its_line_and_changes_nothing(boss: Client) -> None:
    body = 'package spacelift\n\ndeny contains "x" if {\n  input.request.comand == "x"\n}\n'
    name = new_id("typo")
    with pytest.raises(errors.PolicyRefused) as raised:
        await boss.policies.create(name, kind="task", body=body, file_name="typo.rego")
    [finding] = raised.value.findings
    assert (finding.file, finding.line) == ("typo.rego", 4)
    with pytest.raises(errors.NotFound):
        await boss.policies.get(name)


async def test_a_policy_that_fails_is_named_and_the_answer_is_no(boss: Client) -> None:
    stack, other = await new_stack(boss), await new_stack(boss)
    rule = 'deny contains msg if msg := sprintf("%d", [to_number(input.request.command)])'
    body = f"package spacelift\nimport rego.v1\n{rule}\n"
    policy = await boss.policies.create(new_id("fragile"), kind="task", body=body)
    await boss.policies.attach(policy.id, stack.id)
    with pytest.raises(errors.PolicyFailed, match=policy.name):
        await boss.runs.create_task(stack.id, "not a number")
    await boss.runs.create_task(other.id, "not a number")
    assert [run async for run in boss.runs.list(stack_id=stack.id)] == []


async def test_a_locked_stack_refuses_everybody_but_the_owner(strict: House, boss: Client) -> None:
    stack = await new_stack(boss, labels=["teams"])
    async with await member(strict, boss, "ops") as owner, await member(strict, boss, "ops") as other:
        await owner.stacks.lock(stack.id, note="moving state")
        with pytest.raises(errors.StackLocked) as raised:
            await other.runs.create_task(stack.id, "true")
        assert raised.value.note == "moving state"
        with pytest.raises(errors.PermissionDenied):
            await other.stacks.unlock(stack.id)
        await owner.runs.create_task(stack.id, "true")
        await boss.stacks.unlock(stack.id)
        await other.runs.create_task(stack.id, "true")


async def test_while_opa_is_killed_stopped_or_away_every_task_is_refused(strict: House, boss: Client) -> None:
    stack = await new_stack(boss)
    async with interlock.connect(strict.address, api_key=strict.admin_key, retry=NEVER) as caller:
        _opa_of(strict).send_signal(signal.SIGSTOP)
        with pytest.raises(errors.Unavailable, match="the answer is no"):
            await caller.runs.create_task(stack.id, "true")
        await _eventually(caller, stack.id)
        _opa_of(strict).kill()
        answers = {await _answer(caller, stack.id, "terraform destroy") for _ in range(20)}
        assert answers <= {"TaskDenied", "Unavailable"}
        await _eventually(caller, stack.id)
        assert await _answer(caller, stack.id, "terraform destroy") == "TaskDenied"


async def test_a_server_without_opa_does_not_start_and_says_why(tmp_path: Path, engine_url: str) -> None:
    house = House(tmp_path, engine_url, {"INTERLOCK_OPA": "/nowhere/opa"})
    with pytest.raises(AssertionError, match="/nowhere/opa"):
        await house.start_server()
    house.close()


def _opa_of(house: House) -> psutil.Process:
    [opa] = [
        child
        for child in psutil.Process(house.server.pid).children(recursive=True)
        if child.name() == "opa" and child.status() != psutil.STATUS_ZOMBIE
    ]
    return opa


async def _answer(client: Client, stack_id: str, command: str) -> str:
    try:
        await client.runs.create_task(stack_id, command)
    except errors.InterlockError as error:
        return type(error).__name__
    return "created"


async def _eventually(client: Client, stack_id: str) -> None:
    """Returns once a task is accepted."""
    while await _answer(client, stack_id, "true") != "created":
        pass
