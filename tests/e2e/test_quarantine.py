"""A policy that eats time, over the API: who is refused, what is noted, and who is not in its way."""

from __future__ import annotations

import asyncio
import json

import pytest

from interlock import errors, types
from interlock.client import Client
from tests.e2e.conftest import new_id, new_stack

ENDLESS = """package p

ns := numbers.range(1, 200)

deny contains "x" if {
	some a in ns
	some b in ns
	some c in ns
	some d in ns
	some e in ns
	a + b + c + d + e < 0
}
"""
DENY = 'package p\n\ndeny contains "no" if input.request.command == "rm"\n'
WITHIN_S = 120


async def guarded(admin: Client, body: str) -> tuple[types.Stack, types.Policy]:
    stack = await new_stack(admin)
    policy = await admin.policies.create(new_id("task"), kind="task", body=body)
    await admin.policies.attach(policy.id, stack.id)
    return stack, policy


async def test_a_policy_that_overruns_is_named_and_noted_while_another_stacks_decisions_go_on(
    admin: Client,
) -> None:
    stack, policy = await guarded(admin, ENDLESS)
    other, _ = await guarded(admin, DENY)
    answers: set[str] = set()

    async def overran() -> list[types.AuditEvent]:
        """On a machine that is too slow to tell whose fault it is, that takes more than one task."""
        while not (
            found := [
                each
                async for each in admin.audit.list(action="policy.overran")
                if each.resource_id == policy.id
            ]
        ):
            with pytest.raises((errors.PolicyFailed, errors.Unavailable)):
                await admin.runs.create_task(stack.id, "ls")
        return found

    async with asyncio.timeout(WITHIN_S):
        finding = asyncio.create_task(overran())
        while not finding.done():
            with pytest.raises(errors.TaskDenied) as denied:
                await admin.runs.create_task(other.id, "rm")
            answers.update(denied.value.messages)

    assert answers == {"no"}
    [event] = finding.result()
    assert json.loads(event.details_json) == {
        "cause": "it takes more than 1.5 s", "in_a_row": 1, "revision": 1,
    }  # fmt: skip
    assert not [run async for run in admin.runs.list(stack_id=stack.id)]
