"""The slot lent to outsiders, on the real database: whose turn it is, offered, confirmed, expired, let go."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
import sqlalchemy as sa

from control_plane import clock, errors
from control_plane.identity.principal import Principal
from control_plane.queue import lanes
from control_plane.runs import holds, store, waiting
from control_plane.runs.errors import StaleToken, WrongState
from control_plane.runs.feeds import Feeds
from control_plane.runs.hold_leases import LOOK_S, HoldLeases
from control_plane.runs.notices import Notices
from control_plane.runs.states import RunState
from control_plane.storage import tables
from control_plane.storage.shared_clock import now_us
from interlock.v1 import run_pb2
from interlock.v1 import slot_service_pb2 as rpc
from tests.integration.runs.conftest import ADA, STACK, World
from tests.integration.runs.dispatching import Dispatching

BOB = Principal(id="key_00000000000000000000000bob", login="bob", name="Bob")
ROOT = Principal(id="key_0000000000000000000000root", login="root", name="Root", admin=True)
LEASE_US = 60_000_000
LONG_AGO_US = 1_000_000


async def ask(world: World, by: Principal = ADA, *, release_on_expiry: bool = False) -> str:
    """A hold in the queue, as AcquireSlot records it."""
    return await world.queue(
        by=by,
        type=holds.HOLD,
        command="",
        purpose="a migration",
        lease_us=LEASE_US,
        lease_until=clock.now_us() + holds.WAIT_US,
        release_on_expiry=release_on_expiry,
    )


async def offer(world: World, run_id: str) -> bool:
    return await world.db.write(lambda tx: holds.offer(tx, run_id))


async def renew(world: World, run_id: str, token: int = 1, by: Principal = ADA) -> bool:
    request = rpc.RenewSlotRequest(run_id=run_id, fencing_token=token)
    return (await world.db.write(lambda tx: holds.renew(tx, by, request)))[1]


async def release(world: World, run_id: str, by: Principal = ADA, **fields: object) -> bool:
    request = rpc.ReleaseSlotRequest(run_id=run_id, **fields)  # type: ignore[arg-type]  # as the test gives them
    return (await world.db.write(lambda tx: holds.release(tx, by, request)))[1]


async def held(world: World, by: Principal = ADA, *, release_on_expiry: bool = False) -> str:
    run_id = await ask(world, by, release_on_expiry=release_on_expiry)
    assert await offer(world, run_id)
    assert await renew(world, run_id, by=by)
    return run_id


async def run_down(world: World, run_id: str, *, served_since_us: int = 0) -> bool:
    """Lets the lease end now, and looks."""

    def unit(tx: sa.Connection) -> bool:
        store.update(tx, run_id, lease_until=LONG_AGO_US)
        return holds.expire(tx, run_id, served_since_us) is not None

    return await world.db.write(unit)


async def fence(world: World) -> int:
    return int((await world.db.read(lambda tx: store.slot(tx, STACK))).fence)


async def lock(world: World, by: Principal | None) -> None:
    owner = {"lock_owner_id": by.id, "lock_owner": b""} if by else {"lock_owner_id": None, "lock_owner": None}

    def unit(tx: sa.Connection) -> None:
        tx.execute(sa.update(tables.stacks).values(**owner))
        lanes.stack_changed(tx, STACK)

    await world.db.write(unit)


async def started(world: World) -> list[str]:
    """What a runner with room is given now."""
    return await Dispatching(world.db, capacity=4).start()


async def actions(world: World, run_id: str) -> Sequence[tuple[str, str]]:
    """(action, who) of all audit events of a run, oldest first."""
    events = tables.audit_events.c
    select = (
        sa.select(events.action, events.caller_login).where(events.resource_id == run_id).order_by(events.id)
    )
    return [
        (row.action, row.caller_login) for row in await world.db.read(lambda tx: tx.execute(select).all())
    ]


async def test_a_hold_takes_the_slot_in_two_steps_and_gives_it_back(world: World) -> None:
    run_id = await ask(world)
    assert await offer(world, run_id)
    offered = await world.row(run_id)
    assert (offered.state, offered.fence, await world.holder()) == ("READY", 1, run_id)
    assert await renew(world, run_id)
    assert await world.state(run_id) is RunState.HELD
    assert await release(world, run_id, fencing_token=1)
    assert (await world.state(run_id), await world.holder()) == (RunState.FINISHED, None)
    assert not await release(world, run_id)
    assert await actions(world, run_id) == [
        ("run.ready", "system"), ("run.held", "ada"), ("run.finished", "ada")
    ]  # fmt: skip


async def test_tasks_and_holds_get_the_slot_in_the_order_in_which_they_came(world: World) -> None:
    first, task, second = await ask(world), await world.queue(), await ask(world)
    assert await started(world) == []
    assert not await offer(world, second)
    assert await offer(world, first)
    await release(world, first)
    assert not await offer(world, second)
    assert await started(world) == [task]


async def test_callers_take_turns_with_holds_as_with_tasks(world: World) -> None:
    adas, bobs_task, adas_other = await ask(world), await world.queue(by=BOB), await ask(world)
    assert await started(world) == []
    assert await offer(world, adas)
    await release(world, adas)
    # Ada had it last: even without a runner for Bob's task, she waits for it.
    assert not await offer(world, adas_other)
    assert await started(world) == [bobs_task]


async def test_a_task_does_not_overtake_anothers_hold_that_came_first(world: World) -> None:
    hold, task = await ask(world, BOB), await world.queue()
    assert await started(world) == []
    assert await offer(world, hold)
    await release(world, hold, BOB)
    assert await started(world) == [task]


async def test_a_task_of_another_stack_starts_while_a_hold_is_next(world: World) -> None:
    await world.add_stack("other")
    await ask(world)
    task = await world.queue("other")
    assert await started(world) == [task]


async def test_of_two_that_are_offered_the_slot_at_once_one_has_it(world: World) -> None:
    one, two = await ask(world), await ask(world)
    offered = await asyncio.gather(*(offer(world, run_id) for run_id in [one, two] * 4))
    assert offered.count(True) == 1
    assert (await world.state(one), await world.state(two)) == (RunState.READY, RunState.QUEUED)


async def test_the_database_itself_refuses_a_second_active_hold(world: World) -> None:
    await held(world)
    other = await ask(world)
    update = sa.update(tables.runs).where(tables.runs.c.id == other)
    for state in ("READY", "HELD", "EXPIRED"):
        with pytest.raises(sa.exc.IntegrityError):
            await world.db.write(lambda tx, state=state: tx.execute(update.values(state=state)))  # type: ignore[misc]


async def test_a_lock_holds_against_holds_of_others_and_not_against_its_owners(world: World) -> None:
    first, second = await ask(world, ADA), await ask(world, BOB)
    await lock(world, BOB)
    assert not await offer(world, first)
    assert await offer(world, second)


async def test_an_offer_that_nobody_confirms_lapses_and_costs_nothing(world: World) -> None:
    run_id = await ask(world)
    await offer(world, run_id)
    assert await run_down(world, run_id)
    assert (await world.state(run_id), await world.holder()) == (RunState.DISCARDED, None)
    with pytest.raises(WrongState, match="is over"):
        await renew(world, run_id)


async def test_a_hold_that_nobody_waits_for_leaves_the_queue(world: World) -> None:
    run_id = await ask(world)
    assert await run_down(world, run_id)
    slot = await world.db.read(lambda tx: store.slot(tx, STACK))
    assert (await world.state(run_id), slot.pending) == (RunState.DISCARDED, 0)


async def test_an_expired_hold_keeps_the_slot_and_its_owner_may_renew_it(world: World) -> None:
    run_id = await held(world)
    assert await run_down(world, run_id)
    assert (await world.state(run_id), await world.holder()) == (RunState.EXPIRED, run_id)
    assert not await run_down(world, run_id)
    slot = await world.db.read(lambda tx: store.slot(tx, STACK))
    assert "ada's hold" in waiting.holder_is(slot)
    assert "expired at 1970-01-01T00:00:01Z: ada or an admin has to let go of it" in waiting.holder_is(slot)
    assert await renew(world, run_id)
    assert await world.state(run_id) is RunState.HELD


async def test_release_on_expiry_frees_the_slot_and_makes_the_token_stale(world: World) -> None:
    run_id = await held(world, release_on_expiry=True)
    assert await run_down(world, run_id)
    row = await world.row(run_id)
    assert (row.state, row.failure) == ("FAILED", run_pb2.RUN_FAILURE_HOLD_EXPIRED)
    assert (await world.holder(), await fence(world)) == (None, 2)
    with pytest.raises(WrongState, match="did not renew it"):
        await renew(world, run_id)


async def test_an_admin_lets_go_of_an_expired_hold_with_a_reason(world: World) -> None:
    run_id = await held(world)
    await run_down(world, run_id)
    with pytest.raises(errors.InvalidField, match="reason"):
        await release(world, run_id, ROOT)
    assert await release(world, run_id, ROOT, reason="the machine is gone")
    row = await world.row(run_id)
    assert (row.state, row.failure) == ("FAILED", run_pb2.RUN_FAILURE_HOLD_TAKEN_AWAY)
    assert "taken away by root: the machine is gone" in row.state_reason
    assert (await world.holder(), await fence(world)) == (None, 2)
    assert ("hold.taken_away", "root") in await actions(world, run_id)


async def test_an_admin_needs_force_while_the_lease_lasts(world: World) -> None:
    run_id = await held(world)
    with pytest.raises(WrongState, match="may be at work"):
        await release(world, run_id, ROOT, reason="now")
    assert await world.holder() == run_id
    assert await release(world, run_id, ROOT, reason="now", force=True)
    assert await world.holder() is None


async def test_somebody_else_neither_renews_nor_lets_go(world: World) -> None:
    run_id = await held(world)
    with pytest.raises(errors.NotAllowed, match="only its owner renews"):
        await renew(world, run_id, by=ROOT)
    with pytest.raises(errors.NotAllowed, match="only ada or an admin"):
        await release(world, run_id, BOB, reason="mine now", force=True)
    assert await world.holder() == run_id


async def test_a_stale_fencing_token_changes_nothing(world: World) -> None:
    run_id = await held(world)
    before = await world.row(run_id)
    with pytest.raises(StaleToken, match="fencing token 9"):
        await renew(world, run_id, 9)
    with pytest.raises(StaleToken, match="nothing was changed"):
        await release(world, run_id, fencing_token=9)
    assert await world.row(run_id) == before


async def test_a_hold_that_waits_is_not_renewed_and_a_task_is_no_hold(world: World) -> None:
    task, run_id = await world.queue(), await ask(world)
    with pytest.raises(WrongState, match="has not got the slot yet"):
        await renew(world, run_id)
    with pytest.raises(WrongState, match="is no hold"):
        await release(world, task)
    await release(world, run_id)
    slot = await world.db.read(lambda tx: store.slot(tx, STACK))
    assert (await world.state(run_id), slot.pending) == (RunState.DISCARDED, 1)


async def test_a_lease_does_not_end_while_nobody_could_have_heard_a_renewal(world: World) -> None:
    run_id = await held(world)
    now = await world.db.read(now_us)
    assert not await run_down(world, run_id, served_since_us=now)
    assert await run_down(world, run_id, served_since_us=now - LEASE_US - 1)


@pytest.fixture
def leases(world: World) -> HoldLeases:
    feeds = Feeds()
    return HoldLeases(world.db, feeds, Notices(feeds))


async def lease_until(world: World, run_id: str) -> int:
    return int((await world.row(run_id)).lease_until)


async def test_who_waits_keeps_the_place_and_who_went_away_loses_it_soon(
    world: World, leases: HoldLeases
) -> None:
    run_id = await ask(world)
    await world.db.write(lambda tx: store.update(tx, run_id, lease_until=LONG_AGO_US))
    with leases.attended(run_id):
        await leases.look()
        now = await world.db.read(now_us)
        assert await lease_until(world, run_id) > now + holds.GONE_US
    await leases.look()
    assert await lease_until(world, run_id) <= await world.db.read(now_us) + holds.GONE_US


async def test_a_control_plane_that_has_just_started_ends_no_lease_before_its_holder_could_renew(
    world: World, leases: HoldLeases
) -> None:
    run_id = await held(world)
    await world.db.write(lambda tx: store.update(tx, run_id, lease_until=LONG_AGO_US))
    await leases.look()
    assert await world.state(run_id) is RunState.HELD
    await world.db.write(lambda tx: store.update(tx, run_id, lease_us=1))
    await leases.look()
    assert await world.state(run_id) is RunState.EXPIRED


async def test_two_control_planes_end_one_lease_once(world: World) -> None:
    run_id = await held(world)
    await world.db.write(lambda tx: store.update(tx, run_id, lease_until=LONG_AGO_US))
    ended = await asyncio.gather(*(world.db.write(lambda tx: holds.expire(tx, run_id, 0)) for _ in range(4)))
    assert [row is not None for row in ended].count(True) == 1
    assert [action for action, _ in await actions(world, run_id)].count("run.expired") == 1


async def test_the_next_look_is_when_the_next_lease_ends(world: World, leases: HoldLeases) -> None:
    run_id = await held(world)
    await world.queue()
    assert await leases.look() == LOOK_S
    soon = await world.db.read(now_us) + 1_000_000
    await world.db.write(lambda tx: store.update(tx, run_id, lease_until=soon))
    assert 0 < await leases.look() <= 1
