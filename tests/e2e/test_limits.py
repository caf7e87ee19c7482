"""Limits, as their admin sets them and as callers meet them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from interlock import errors, types
from interlock.client import Client
from interlock.v1.run_pb2 import (
    RUN_FAILURE_QUEUE_TIMEOUT,
    RUN_STATE_DISCARDED,
    RUN_STATE_FINISHED,
    WAIT_REASON_EARLIER_RUN,
    WAIT_REASON_LIMIT,
    WAIT_REASON_NO_RUNNER,
)
from tests.e2e.conftest import new_id, new_stack
from tests.house import House


async def test_a_full_queue_refuses_with_which_limit_and_when_to_come_again(admin: Client) -> None:
    stack = await new_stack(admin)
    await admin.limits.set("stack", stack.id, max_queued=1)
    kept = await admin.runs.create_task(stack.id, "true", request_id=new_id("kept"))
    with pytest.raises(
        errors.QueueFull, match=f"1 runs of stack {stack.id} wait, and a limit allows 1"
    ) as refused:
        await admin.runs.create_task(stack.id, "true")
    limit = refused.value.limit
    assert (limit.kind, limit.subject, limit.most, limit.count) == (
        types.LimitKind.LIMIT_KIND_STACK,
        stack.id,
        1,
        1,
    )
    assert refused.value.retry_after_s == 10
    with pytest.raises(errors.QueueFull):
        await admin.runs.start(await _with_plan(admin, stack))
    await admin.runs.discard(kept.id)
    await admin.runs.create_task(stack.id, "true")


async def test_a_caller_with_a_full_queue_keeps_nobody_else_out(served: House, admin: Client) -> None:
    stack = await new_stack(admin)
    key = await admin.identity.create_key(new_id("greedy"), admin=True)
    await admin.limits.set("caller", key.api_key.login, max_queued=2)
    async with served.connect(key.credential) as greedy:
        for _ in range(2):
            await greedy.runs.create_task(stack.id, "true")
        with pytest.raises(errors.QueueFull):
            await greedy.runs.create_task(stack.id, "true")
    run = await admin.runs.get((await admin.runs.create_task(stack.id, "true")).id)
    # Two of the other's wait for longer, and callers take turns.
    assert run.waiting.position == 2


async def test_a_run_that_a_limit_holds_back_says_which_and_starts_once_it_is_gone(
    client: Client, test_image: str
) -> None:
    label = new_id("label")
    stack = await new_stack(client, test_image, labels=[label])
    await client.limits.set("label", label, max_active=0)
    first = await client.runs.create_task(stack.id, "true")
    second = await client.runs.create_task(stack.id, "true")
    waiting = (await client.runs.get(first.id)).waiting
    assert waiting.reason == WAIT_REASON_LIMIT
    assert waiting.message == f"0 runs of stacks with label {label} are active, and a limit allows 0"
    assert (waiting.limit.kind, waiting.limit.subject) == (types.LimitKind.LIMIT_KIND_LABEL, label)
    behind = (await client.runs.get(second.id)).waiting
    assert (behind.reason, behind.blocking_run_id, behind.position) == (WAIT_REASON_EARLIER_RUN, first.id, 2)
    assert not behind.HasField("expected_wait")
    await client.limits.delete("label", label)
    assert (await client.runs.wait(second.id)).state == RUN_STATE_FINISHED
    assert (await client.runs.get(first.id)).state == RUN_STATE_FINISHED

    await client.limits.set("label", label, max_active=0)
    await client.runs.create_task(stack.id, "true")
    third = await client.runs.create_task(stack.id, "true")
    # Known by now: how long runs of this stack take.
    assert (await client.runs.get(third.id)).waiting.HasField("expected_wait")
    await client.limits.delete("label", label)
    assert (await client.runs.wait(third.id)).state == RUN_STATE_FINISHED


async def test_a_run_that_no_runner_takes_in_time_is_discarded_with_the_reason(admin: Client) -> None:
    stack = await new_stack(admin)
    run = await admin.runs.create_task(stack.id, "true", queue_timeout=timedelta(seconds=1))
    assert run.HasField("queue_deadline")
    over = await admin.runs.wait(run.id)
    assert (over.state, over.failure) == (RUN_STATE_DISCARDED, RUN_FAILURE_QUEUE_TIMEOUT)
    assert over.state_reason == "no runner had it within 1 s, which is as long as it may wait"
    assert (await admin.stacks.get(stack.id)).queued_runs == 0


async def test_limits_are_listed_with_what_they_say(admin: Client) -> None:
    login = new_id("nobody")
    made = await admin.limits.set("caller", login, max_active=3, max_queued=7)
    assert await admin.limits.get("caller", login) == made
    listed = [limit async for limit in admin.limits.list()]
    assert made in listed
    kinds = [types.LimitKind.Name(limit.kind) for limit in listed]
    assert kinds == sorted(kinds)
    await admin.limits.delete("caller", login)
    with pytest.raises(errors.NotFound):
        await admin.limits.get("caller", login)
    events = [event async for event in admin.audit.list(resource_id=made.id)]
    assert [event.action for event in events] == ["limit.deleted", "limit.set"]


async def test_a_run_without_a_runner_says_so_and_its_place(admin: Client) -> None:
    stack = await new_stack(admin)
    run = await admin.runs.create_task(stack.id, "true")
    waiting = (await admin.runs.get(run.id)).waiting
    assert (waiting.reason, waiting.position, waiting.runs_ahead) == (WAIT_REASON_NO_RUNNER, 1, 0)


async def _with_plan(admin: Client, stack: types.Stack) -> str:
    await admin.stacks.update(stack.id, custom_plan=["true"], custom_apply=["true"])
    return stack.id
