"""ExplainTask: may I run this here, and which policy says what, without creating anything."""

from __future__ import annotations

import json

import pytest

from interlock import errors, types
from interlock.client import Client
from tests.e2e.conftest import new_id, new_stack
from tests.house import House

RULE = 'package p\nimport rego.v1\ndeny contains "no taint" if startswith(request.command, "taint")\n'
READERS = 'package p\nimport rego.v1\nread if "readers" in session.teams\n'
TWO_EYES = "package p\nimport rego.v1\napprove if count(reviews.current.approvals) > 0\n"


async def policy(admin: Client, stack: types.Stack, kind: str, body: str, *, shadow: bool = False) -> str:
    """Attached to the stack; its id."""
    made = await admin.policies.create(new_id(kind), kind=kind, body=body)
    await admin.policies.attach(made.id, stack.id, shadow=shadow)
    return made.id


async def nothing_was_written(admin: Client, stack: types.Stack) -> bool:
    runs = [each async for each in admin.runs.list(stack_id=stack.id)]
    decisions = [each async for each in admin.decisions.list(stack_id=stack.id)]
    denials = [each async for each in admin.audit.list(stack_id=stack.id, action="task.")]
    return not (runs or decisions or denials)


async def test_what_may_run_is_explained_and_not_created(admin: Client) -> None:
    stack = await new_stack(admin)
    policy_id = await policy(admin, stack, "task", RULE)
    answer = await admin.runs.explain_task(stack.id, "true")
    assert answer.allowed
    assert answer.state == types.RunState.RUN_STATE_QUEUED
    [verdict] = answer.decision.verdicts
    assert (verdict.policy_id, verdict.results_json) == (policy_id, '{"deny": []}')
    assert json.loads(answer.decision.input_json)["request"]["command"] == "true"
    assert await nothing_was_written(admin, stack)


async def test_what_a_policy_denies_is_explained_with_its_message(admin: Client) -> None:
    stack = await new_stack(admin)
    policy_id = await policy(admin, stack, "task", RULE)
    shadow_id = await policy(admin, stack, "task", RULE.replace("no taint", "never"), shadow=True)
    answer = await admin.runs.explain_task(stack.id, "taint x")
    assert not answer.allowed
    assert answer.outcome == f"denied by {policy_id}: no taint"
    assert {each.policy_id: each.shadow for each in answer.decision.verdicts} == {
        policy_id: False, shadow_id: True,
    }  # fmt: skip
    assert await nothing_was_written(admin, stack)


async def test_what_would_wait_for_approval_says_for_whose(admin: Client) -> None:
    stack = await new_stack(admin)
    policy_id = await policy(admin, stack, "approval", TWO_EYES)
    answer = await admin.runs.explain_task(stack.id, "true")
    assert answer.allowed
    assert answer.state == types.RunState.RUN_STATE_PENDING_REVIEW
    assert policy_id in answer.outcome
    assert [each.policy_id for each in answer.approval.verdicts] == [policy_id]
    assert await nothing_was_written(admin, stack)


async def test_a_policy_that_fails_is_part_of_the_answer(admin: Client) -> None:
    stack = await new_stack(admin)
    body = 'package p\nimport rego.v1\ndeny contains "x" if to_number(request.command) > 0\n'
    policy_id = await policy(admin, stack, "task", body)
    answer = await admin.runs.explain_task(stack.id, "no number")
    assert not answer.allowed
    assert policy_id in answer.outcome
    assert answer.decision.outcome == "failed"
    assert await nothing_was_written(admin, stack)


async def test_a_reader_is_told_that_they_may_not_write_and_a_stranger_nothing(
    served: House, admin: Client
) -> None:
    stack = await new_stack(admin)
    await policy(admin, stack, "access", READERS)
    await policy(admin, stack, "task", RULE)
    key = await admin.identity.create_key(new_id("reader"), teams=["readers"])
    async with served.connect(key.credential) as reader:
        answer = await reader.runs.explain_task(stack.id, "taint x")
    assert not answer.allowed
    assert "may read stack" in answer.outcome
    assert "taint" not in str(answer.decision.verdicts)
    other = await admin.identity.create_key(new_id("stranger"))
    async with served.connect(other.credential) as stranger:
        with pytest.raises(errors.NotFound):
            await stranger.runs.explain_task(stack.id, "true")


async def test_a_lock_of_another_is_explained(served: House, admin: Client) -> None:
    stack = await new_stack(admin)
    key = await admin.identity.create_key(new_id("owner"), admin=True)
    async with served.connect(key.credential) as owner:
        await owner.stacks.lock(stack.id, note="moving state")
    answer = await admin.runs.explain_task(stack.id, "true")
    assert not answer.allowed
    assert "locked" in answer.outcome
