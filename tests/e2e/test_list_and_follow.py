"""Lists with their filters and pages; stacks locked together; what a caller sees of it all."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from interlock import errors, types
from interlock.client import Client
from interlock.v1.audit_service_pb2 import ListEventsRequest
from interlock.v1.audit_service_pb2_grpc import AuditServiceStub
from interlock.v1.identity_service_pb2 import ExchangeApiKeyRequest
from interlock.v1.identity_service_pb2_grpc import IdentityServiceStub
from interlock.v1.run_service_pb2 import ListRunsRequest
from interlock.v1.run_service_pb2_grpc import RunServiceStub
from interlock.v1.stack_service_pb2 import ListStacksRequest
from interlock.v1.stack_service_pb2_grpc import StackServiceStub
from tests.e2e.conftest import new_id, new_stack
from tests.house import House

QUEUED = types.RunState.RUN_STATE_QUEUED
DISCARDED = types.RunState.RUN_STATE_DISCARDED
LARGE_HOOKS = types.Hooks(before_init=["#" * 65_000] * 6)


async def test_runs_are_listed_newest_first_page_by_page(admin: Client) -> None:
    stack = await new_stack(admin)
    made = [(await admin.runs.create_task(stack.id, f"echo {number}")).id for number in range(7)]
    listed = [run.id async for run in admin.runs.list(stack_id=stack.id)]
    assert listed == made[::-1]


async def test_a_page_of_large_items_is_cut_to_what_every_grpc_client_takes(
    served: House, admin: Client
) -> None:
    stack = await new_stack(admin, labels=["heavy"], hooks=LARGE_HOOKS)
    runs = {(await admin.runs.create_task(stack.id, ": " + "x" * 60_000)).id for _ in range(75)}
    stacks = {stack.id} | {
        (await new_stack(admin, labels=["heavy"], hooks=LARGE_HOOKS)).id for _ in range(10)
    }
    key_id, _, secret = served.admin_key.partition(".")
    async with grpc.aio.insecure_channel(served.address) as channel:
        exchange = ExchangeApiKeyRequest(key_id=key_id, secret=secret)
        token = (await IdentityServiceStub(channel).ExchangeApiKey(exchange)).access_token
        bearer = (("authorization", f"Bearer {token}"),)
        few_runs = await RunServiceStub(channel).ListRuns(
            ListRunsRequest(stack_id=stack.id, page_size=500), metadata=bearer
        )
        few_events = await AuditServiceStub(channel).ListEvents(
            ListEventsRequest(stack_id=stack.id, page_size=500), metadata=bearer
        )
        few_stacks = await StackServiceStub(channel).ListStacks(
            ListStacksRequest(labels=["heavy"], page_size=500), metadata=bearer
        )
    assert 0 < len(few_runs.runs) < 75
    assert 0 < len(few_events.events) < 75
    assert 0 < len(few_stacks.stacks) < 11
    assert {run.id async for run in admin.runs.list(stack_id=stack.id)} == runs
    created = admin.audit.list(stack_id=stack.id, action="task.created")
    assert {event.resource_id async for event in created} == runs
    assert {each.id async for each in admin.stacks.list(labels=["heavy"])} == stacks


async def test_runs_are_filtered_by_state_caller_and_time(served: House, admin: Client) -> None:
    stack = await new_stack(admin)
    key = await admin.identity.create_key(new_id("second"), admin=True)
    async with served.connect(key.credential) as second:
        theirs = await second.runs.create_task(stack.id, "true")
    mine = await admin.runs.create_task(stack.id, "true")
    await admin.runs.discard(mine.id)

    async def ids(**filters: object) -> set[str]:
        return {run.id async for run in admin.runs.list(stack_id=stack.id, **filters)}  # type: ignore[arg-type]

    assert await ids(states=[QUEUED]) == {theirs.id}
    assert await ids(states=[QUEUED, DISCARDED]) == {theirs.id, mine.id}
    assert await ids(caller_login=key.api_key.login) == {theirs.id}
    assert await ids(created_after=datetime.now(UTC) + timedelta(hours=1)) == set()
    assert await ids(created_before=datetime.now(UTC) + timedelta(hours=1)) == {theirs.id, mine.id}


async def test_many_stacks_are_locked_all_or_none(served: House, admin: Client) -> None:
    one, two = await new_stack(admin), await new_stack(admin)
    key = await admin.identity.create_key(new_id("other"), admin=True)
    async with served.connect(key.credential) as other:
        await other.stacks.lock(two.id, note="theirs")
        with pytest.raises(errors.StackLocked):
            await admin.stacks.lock(one.id, two.id)
        assert not (await admin.stacks.get(one.id)).HasField("lock")
        await other.stacks.unlock(two.id)
    locked = await admin.stacks.lock(one.id, two.id, note="together")
    assert [stack.lock.note for stack in locked] == ["together", "together"]


async def test_a_queued_run_of_another_waits_while_the_stack_is_locked(served: House, admin: Client) -> None:
    stack = await new_stack(admin)
    key = await admin.identity.create_key(new_id("queuer"), admin=True)
    async with served.connect(key.credential) as queuer:
        run = await queuer.runs.create_task(stack.id, "true")
    await admin.stacks.lock(stack.id)
    waiting = (await admin.runs.get(run.id)).waiting
    assert (waiting.reason, waiting.lock_owner.login) == (types.WaitReason.WAIT_REASON_STACK_LOCKED, "admin")


async def test_a_watcher_of_a_queued_run_sees_the_reason_change(served: House, admin: Client) -> None:
    stack = await new_stack(admin)
    key = await admin.identity.create_key(new_id("watcher"), admin=True)
    async with served.connect(key.credential) as watcher:
        run = await watcher.runs.create_task(stack.id, "true")
        events = watcher.runs.follow(run.id)
        reasons = [await _reason(anext(events))]
        await admin.stacks.lock(stack.id)
        while reasons[-1] != types.WaitReason.WAIT_REASON_STACK_LOCKED:
            reasons.append(await _reason(anext(events)))
        await admin.runs.discard(run.id)
        rest = [event async for event in events]
    assert reasons[0] == types.WaitReason.WAIT_REASON_NO_RUNNER
    assert isinstance(rest[-1], types.Run)
    assert rest[-1].state == DISCARDED


async def test_sixteen_callers_at_once_each_get_their_own_run(admin: Client) -> None:
    stack = await new_stack(admin)
    made = await asyncio.gather(*(admin.runs.create_task(stack.id, f"echo {number}") for number in range(64)))
    assert len({run.id for run in made}) == 64
    assert (await admin.stacks.get(stack.id)).queued_runs == 64
    assert (await admin.audit.verify()).intact


async def _reason(event: object) -> int:
    run = await event  # type: ignore[misc]
    assert isinstance(run, types.Run)
    return run.waiting.reason
