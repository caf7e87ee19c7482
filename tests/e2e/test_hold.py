"""The slot lent to outsiders, over the wire: waited for in the same queue, kept over restarts, let go by who may."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import docker
import pytest

from interlock import errors, sync, types
from interlock.client import Client
from tests import house as houses
from tests.e2e.conftest import new_id, new_stack
from tests.holding import HOLD, release
from tests.house import House, begun, reached, watch

SHORT_S = 1.0
WRITERS = """package spacelift
import rego.v1
write if "ops" in input.session.teams
read if "audit" in input.session.teams
"""
# Says the id of its hold, and waits.
WAITER = """
import sys
from interlock import sync
with sync.connect(sys.argv[1], api_key=sys.argv[2]) as client:
    for run in client.slots.acquire(sys.argv[3]):
        print(run.id, flush=True)
"""


def state(run: types.Run) -> str:
    return types.RunState.Name(run.state).removeprefix("RUN_STATE_")


async def taken(client: Client, stack_id: str, **options: object) -> types.Run:
    """A hold that is held and that nobody renews."""
    offered = types.Run()
    async for run in client.slots.acquire(stack_id, **options):  # type: ignore[arg-type]
        offered = run
    return await client.slots.renew(offered.id, offered.fencing_token)


async def test_a_hold_is_had_for_a_block_and_let_go_of_afterwards(admin: Client) -> None:
    stack = await new_stack(admin)
    seen: list[types.Run] = []
    async with admin.slots.hold(stack.id, purpose="moves state", on_change=seen.append) as held:
        assert held.is_sure
        during = await admin.stacks.get(stack.id)
    after = await admin.stacks.get(stack.id)

    assert [state(run) for run in seen] == ["QUEUED", "READY", "HELD"]
    holder = during.slot_holder
    assert (holder.run_id, holder.owner.login, holder.hold.purpose) == (held.run_id, "admin", "moves state")
    assert holder.type == types.RunType.RUN_TYPE_HOLD
    assert (after.active_run_id, after.fencing_token) == ("", held.fencing_token)
    assert not after.HasField("slot_holder")
    run = await admin.runs.get(held.run_id)
    assert state(run) == "FINISHED"
    listed = [run async for run in admin.runs.list(stack_id=stack.id)]
    assert [run.id for run in listed] == [held.run_id]


async def test_the_face_without_an_event_loop_holds_too(served: House, admin: Client) -> None:
    stack = await new_stack(admin)

    def program() -> int:
        with sync.connect(served.address, api_key=served.admin_key) as client:
            with client.slots.hold(stack.id) as held:
                assert client.stacks.get(stack.id).active_run_id == held.run_id
            return held.fencing_token

    assert await asyncio.to_thread(program) == (await admin.stacks.get(stack.id)).fencing_token


async def test_tasks_wait_for_a_hold_and_holds_for_tasks(
    client: Client, test_image: str, docker_client: docker.DockerClient
) -> None:
    stack = await new_stack(client, test_image)
    task = await client.runs.create_task(stack.id, f"echo on; {HOLD}", skip_initialization=True)
    await begun(client, task.id)
    seen: list[types.Run] = []
    queued = asyncio.Event()

    def note(run: types.Run) -> None:
        seen.append(run)
        if run.waiting.blocking_run_id == task.id:
            queued.set()

    held = client.slots.hold(stack.id, purpose="a deploy", on_change=note)
    entering = asyncio.create_task(held.__aenter__())
    await queued.wait()
    behind = await client.runs.create_task(stack.id, "true", skip_initialization=True)
    release(docker_client, task.id)
    await entering
    waiting = (await client.runs.get(behind.id)).waiting
    await held.__aexit__(None, None, None)
    done = await watch(client, behind.id)

    assert seen[0].waiting.runs_ahead == 1
    assert (waiting.blocking_run_id, waiting.reason) == (held.run_id, types.WaitReason.WAIT_REASON_SLOT_TAKEN)
    assert f"admin's hold {held.run_id} (a deploy)" in waiting.message
    assert done.state == "FINISHED"
    tokens = [run.fencing_token for run in (await client.runs.get(task.id), held.run, done.run)]
    assert tokens == [1, 2, 3]


async def test_a_lease_that_is_not_renewed_is_shown_as_expired_and_stays_until_its_owner_lets_go(
    admin: Client,
) -> None:
    stack = await new_stack(admin)
    held = await taken(admin, stack.id, lease_s=SHORT_S)
    task = await admin.runs.create_task(stack.id, "true")
    await reached(admin, held.id, "EXPIRED")

    holder = (await admin.stacks.get(stack.id)).slot_holder
    waiting = (await admin.runs.get(task.id)).waiting
    assert holder.state == types.RunState.RUN_STATE_EXPIRED
    assert holder.hold.HasField("lease_end_time")
    assert "expired at" in waiting.message
    assert state(await admin.slots.release(held.id)) == "FINISHED"
    assert not (await admin.stacks.get(stack.id)).active_run_id


async def test_release_on_expiry_frees_the_slot_by_itself_and_its_holder_hears_of_it(admin: Client) -> None:
    stack = await new_stack(admin)
    held = await taken(admin, stack.id, lease_s=SHORT_S, release_on_expiry=True)
    over = await watch(admin, held.id)
    assert (over.state, over.run.failure) == ("FAILED", types.RunFailure.RUN_FAILURE_HOLD_EXPIRED)
    assert (await admin.stacks.get(stack.id)).fencing_token == held.fencing_token + 1
    with pytest.raises(errors.WrongState, match="is over"):
        await admin.slots.renew(held.id, held.fencing_token)


@pytest.fixture
async def shared(admin: Client) -> types.Stack:
    """A stack that team ops may write to and team audit may read."""
    label = new_id("label")
    await admin.policies.create(label, kind="access", body=WRITERS, labels=[f"autoattach:{label}"])
    return await new_stack(admin, labels=[label])


async def member(house: House, admin: Client, *teams: str) -> Client:
    return house.connect((await admin.identity.create_key(new_id("member"), teams=teams)).credential)


async def test_an_admin_takes_a_hold_away_and_its_block_ends_with_that(
    served: House, admin: Client, shared: types.Stack
) -> None:
    told = asyncio.Queue[errors.InterlockError | None]()
    async with await member(served, admin, "ops") as owner:
        hold = owner.slots.hold(shared.id, lease_s=SHORT_S, on_trouble=told.put_nowait)
        held = await hold.__aenter__()
        with pytest.raises(errors.WrongState, match="may be at work"):
            await admin.slots.release(held.run_id, reason="the laptop is lost")
        await admin.slots.release(held.run_id, reason="the laptop is lost", force=True)
        assert isinstance(await told.get(), errors.WrongState)
        assert not held.is_sure
        with pytest.raises(errors.HoldLost, match="the laptop is lost"):
            await hold.__aexit__(None, None, None)
    run = await admin.runs.get(held.run_id)
    assert run.failure == types.RunFailure.RUN_FAILURE_HOLD_TAKEN_AWAY


async def test_who_may_write_holds_and_others_neither_hold_nor_let_go(
    served: House, admin: Client, shared: types.Stack
) -> None:
    async with (
        await member(served, admin, "ops") as writer,
        await member(served, admin, "audit") as reader,
        await member(served, admin) as stranger,
    ):
        with pytest.raises(errors.PermissionDenied):
            await taken(reader, shared.id)
        with pytest.raises(errors.NotFound):
            await taken(stranger, shared.id)
        held = await taken(writer, shared.id)
        for other, refusal in ((reader, errors.PermissionDenied), (stranger, errors.NotFound)):
            with pytest.raises(refusal):
                await other.slots.release(held.id, reason="mine", force=True)
            with pytest.raises(refusal):
                await other.slots.renew(held.id, held.fencing_token)
        await writer.slots.release(held.id)
        await writer.stacks.lock(shared.id, note="mine alone")
        with pytest.raises(errors.StackLocked):
            await taken(admin, shared.id)


async def test_the_same_request_id_gives_the_same_hold(admin: Client) -> None:
    stack = await new_stack(admin)
    request_id = new_id("deploy")
    first = await taken(admin, stack.id, request_id=request_id)
    second = await taken(admin, stack.id, request_id=request_id)
    assert (second.id, second.fencing_token) == (first.id, first.fencing_token)
    with pytest.raises(errors.RequestIdReused):
        await taken(admin, stack.id, request_id=request_id, purpose="another")
    await admin.slots.release(first.id)


async def test_a_hold_cannot_be_stopped_or_abandoned_and_its_stack_not_deleted(admin: Client) -> None:
    stack = await new_stack(admin)
    held = await taken(admin, stack.id)
    with pytest.raises(errors.WrongState, match="let go"):
        await admin.runs.stop(held.id)
    with pytest.raises(errors.WrongState, match="ReleaseSlot"):
        await admin.runs.abandon(held.id, reason="why not", force=True)
    with pytest.raises(errors.StackBusy):
        await admin.stacks.delete(stack.id)
    with pytest.raises(errors.FencedOut):
        await admin.slots.release(held.id, fencing_token=held.fencing_token + 1)
    assert (await admin.stacks.get(stack.id)).active_run_id == held.id
    await admin.slots.release(held.id)


async def test_who_dies_while_waiting_leaves_the_queue_and_never_gets_the_slot(
    served: House, admin: Client
) -> None:
    stack = await new_stack(admin)
    async with admin.slots.hold(stack.id):
        command = [sys.executable, "-c", WAITER, served.address, served.admin_key, stack.id]
        waiter = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert waiter.stdout is not None
        run_id = (await waiter.stdout.readline()).decode().strip()
        waiter.kill()
        await waiter.wait()
        gone = await watch(admin, run_id)
    assert gone.states == ["QUEUED", "DISCARDED"]
    assert "does not wait any more" in gone.run.state_reason


async def test_a_hold_and_who_waits_for_it_outlast_a_killed_control_plane(
    tmp_path: Path, engine_url: str
) -> None:
    async with houses.opened(tmp_path, engine_url) as house, house.connect() as client:
        stack = await new_stack(client)
        behind = asyncio.Event()
        async with client.slots.hold(stack.id) as held:
            second = client.slots.hold(stack.id, on_change=lambda _run: behind.set())
            entering = asyncio.create_task(second.__aenter__())
            await behind.wait()
            house.server.kill()
            await house.start_server()
            during = await client.stacks.get(stack.id)
            await client.slots.renew(held.run_id, held.fencing_token)
        await entering
        assert (during.active_run_id, second.fencing_token) == (held.run_id, held.fencing_token + 1)
        await second.__aexit__(None, None, None)
        assert state(second.run) == "FINISHED"
        assert (await client.audit.verify()).intact
