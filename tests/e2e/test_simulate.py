"""SimulatePolicy: what a text that is not stored would say now, of each kind; and who may ask."""

from __future__ import annotations

import json

import pytest

from interlock import errors, types
from interlock.client import Client
from tests.e2e.conftest import new_id, new_stack
from tests.e2e.test_explain import READERS, RULE, TWO_EYES, nothing_was_written, policy
from tests.house import House

NOT_FOR_CI = 'package p\nimport rego.v1\ndeny contains "not for ci" if startswith(session.login, "ci")\n'
APPROVE = "package p\nimport rego.v1\napprove := true\n"


def words(simulation: types.Simulation) -> tuple[str, str, str]:
    return simulation.alone, simulation.now, simulation.together


async def test_a_task_is_simulated_as_another_caller(admin: Client) -> None:
    stack = await new_stack(admin)
    await policy(admin, stack, "task", RULE)
    await policy(admin, stack, "access", READERS.replace("read if", "write if"))
    key = await admin.identity.create_key(new_id("ci"), teams=["readers"])
    ask = {"kind": "task", "stack_id": stack.id, "command": "true"}
    as_admin = await admin.policies.simulate(NOT_FOR_CI, **ask)
    assert words(as_admin) == ("allowed", "allowed", "allowed")
    as_ci = await admin.policies.simulate(
        NOT_FOR_CI, as_login=key.api_key.login, remote_ip="192.0.2.7", **ask
    )
    assert words(as_ci) == ("denied", "allowed", "denied")
    assert list(as_ci.messages) == ["not for ci"]
    seen = json.loads(as_ci.decision.input_json)
    assert (seen["session"]["login"], seen["session"]["teams"]) == (key.api_key.login, ["readers"])
    assert seen["request"]["remote_ip"] == "192.0.2.7"
    assert await nothing_was_written(admin, stack)


async def test_a_policy_is_simulated_without_the_one_that_it_replaces(admin: Client) -> None:
    stack = await new_stack(admin)
    old = await policy(admin, stack, "task", RULE)
    ask = {"stack_id": stack.id, "command": "taint x"}
    assert words(await admin.policies.simulate(NOT_FOR_CI, kind="task", **ask)) == (
        "allowed", "denied", "denied",
    )  # fmt: skip
    assert words(await admin.policies.simulate(NOT_FOR_CI, replaces=old, **ask)) == (
        "allowed", "denied", "allowed",
    )  # fmt: skip


async def test_access_is_simulated_for_somebody_who_has_none(admin: Client) -> None:
    stack = await new_stack(admin)
    key = await admin.identity.create_key(new_id("ann"), teams=["readers"])
    ask = {"kind": "access", "stack_id": stack.id}
    assert words(await admin.policies.simulate(READERS, as_login=key.api_key.login, **ask)) == (
        "read",
        "none",
        "read",
    )
    # An admin is not asked about.
    assert words(await admin.policies.simulate(READERS, **ask)) == ("none", "write", "write")


async def test_an_approval_is_simulated_for_a_command_and_for_a_run_that_waits(admin: Client) -> None:
    stack = await new_stack(admin)
    eyes = await policy(admin, stack, "approval", TWO_EYES)
    simulated = await admin.policies.simulate(APPROVE, kind="approval", stack_id=stack.id, command="true")
    assert words(simulated) == ("approved", "undecided", "undecided")
    run = await admin.runs.create_task(stack.id, "true")
    replaced = await admin.policies.simulate(APPROVE, replaces=eyes, run_id=run.id)
    assert words(replaced) == ("approved", "undecided", "approved")
    assert json.loads(replaced.decision.input_json)["run"]["id"] == run.id
    assert (await admin.runs.get(run.id)).state == types.RunState.RUN_STATE_PENDING_REVIEW
    await admin.runs.discard(run.id)
    with pytest.raises(errors.WrongState):
        await admin.policies.simulate(APPROVE, replaces=eyes, run_id=run.id)


async def test_a_login_is_simulated_by_address(admin: Client) -> None:
    key = await admin.identity.create_key(new_id("ann"))
    office = (
        'package p\nimport rego.v1\nallow if net.cidr_contains("192.0.2.0/24", request.remote_ip)\n'
        "admin if false\n"
    )
    ask = {"kind": "login", "as_login": key.api_key.login}
    inside = await admin.policies.simulate(office, remote_ip="192.0.2.9", **ask)
    assert (inside.alone, inside.together) == ("allowed", "allowed")
    outside = await admin.policies.simulate(office, remote_ip="198.51.100.1", **ask)
    assert (outside.alone, outside.together) == ("denied", "denied")


async def test_a_text_that_errs_is_told_at_its_line(admin: Client) -> None:
    stack = await new_stack(admin)
    fragile = 'package p\nimport rego.v1\n\ndeny contains "x" if to_number(request.command) < 0\n'
    told = await admin.policies.simulate(fragile, kind="task", stack_id=stack.id, command="no number")
    assert words(told) == ("failed", "allowed", "failed")
    assert told.messages[0].startswith("line 4: eval_builtin_error")
    with pytest.raises(errors.PolicyRefused, match="sesion"):
        await admin.policies.simulate(
            RULE.replace("request", "input.sesion"), kind="task", stack_id=stack.id, command="x"
        )


async def test_a_secret_of_the_stack_is_seen_by_the_text_and_shown_to_nobody(admin: Client) -> None:
    stack = await new_stack(admin)
    await admin.stacks.set_environment(stack.id, secrets={"TOKEN": "hunter2hunter2"})
    body = "package p\nimport rego.v1\ndeny contains request.command if endswith(request.command, secret)\n"
    body += 'secret := "hunter2hunter2"\n'
    told = await admin.policies.simulate(body, kind="task", stack_id=stack.id, command="login hunter2hunter2")
    assert told.alone == "denied"
    assert "hunter2" not in str(told)


async def test_who_may_only_read_simulates_for_themselves(served: House, admin: Client) -> None:
    stack = await new_stack(admin)
    await policy(admin, stack, "access", READERS)
    await policy(admin, stack, "task", RULE)
    key = await admin.identity.create_key(new_id("reader"), teams=["readers"])
    async with served.connect(key.credential) as reader:
        ask = {"kind": "task", "stack_id": stack.id, "command": "taint x"}
        told = await reader.policies.simulate(NOT_FOR_CI, **ask)
        assert words(told) == ("allowed", "read only", "read only")
        assert "no taint" not in str(told)
        for whose in ({"as_login": "admin"}, {"remote_ip": "192.0.2.1"}):
            with pytest.raises(errors.PermissionDenied):
                await reader.policies.simulate(NOT_FOR_CI, **ask, **whose)
        backtested = [each async for each in reader.policies.backtest(NOT_FOR_CI, kind="task")]
        assert isinstance(backtested[-1], types.BacktestReport)
    stranger = await admin.identity.create_key(new_id("stranger"))
    async with served.connect(stranger.credential) as other:
        with pytest.raises(errors.NotFound):
            await other.policies.simulate(NOT_FOR_CI, **ask)
        await admin.runs.create_task(stack.id, "true")
        *_, report = [each async for each in other.policies.backtest(NOT_FOR_CI, kind="task")]
        assert isinstance(report, types.BacktestReport)
        assert report.decisions == 0
