"""Limits hold in the database: of what is active, whoever starts it, and of what waits."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
import sqlalchemy as sa

from control_plane import clock, errors, ids
from control_plane.limits.caps import Caps
from control_plane.limits.errors import QueueIsFull
from control_plane.limits.limit import EACH, Kind, Limit
from control_plane.limits.rules import LimitSettings
from control_plane.runs import queue_room, store
from control_plane.runs.feeds import Feeds
from control_plane.runs.notices import Notices
from control_plane.runs.queue_timeouts import LOOK_S, QueueTimeouts
from control_plane.runs.states import RunState
from control_plane.storage import tables
from control_plane.storage.database import Database
from interlock.v1 import run_pb2
from interlock.v1 import run_service_pb2 as rpc
from interlock.v1.errors_pb2 import QueueFull
from tests.integration.runs.conftest import ADA, OTHER_RUNNER, RUNNER, STACK, World, insert_run
from tests.integration.runs.dispatching import BOB, Dispatching, add_stacks, queue

ADMIN = replace(ADA, id="key_0000000000000000000000root", login="root", admin=True)
STACKS = [f"stack-{number}" for number in range(12)]


async def limit(
    db: Database, kind: Kind, subject: str, *, max_active: int | None = None, max_queued: int | None = None
) -> None:
    draft = Limit(kind, subject, max_active=max_active, max_queued=max_queued)
    await LimitSettings(db).set(ADMIN, draft, "")


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        (Kind.POOL, "public"),
        (Kind.POOL, EACH),
        (Kind.LABEL, "prod"),
        (Kind.CALLER, "ada"),
        (Kind.CALLER, EACH),
    ],
)
async def test_no_more_runs_are_active_than_a_limit_allows(db: Database, kind: Kind, subject: str) -> None:
    await add_stacks(db, STACKS, labels=["eu", "prod"])
    await queue(db, ADA, STACKS)
    await limit(db, kind, subject, max_active=3)
    dispatching = Dispatching(db, capacity=10)
    started = await dispatching.start()
    assert len(started) == 3
    assert await dispatching.start() == []
    await dispatching.end(started[0])
    assert len(await dispatching.start()) == 1


async def test_what_a_limit_holds_back_keeps_nobody_else_from_starting(db: Database) -> None:
    await add_stacks(db, STACKS[:6], labels=["prod"])
    await add_stacks(db, STACKS[6:])
    await queue(db, ADA, STACKS)
    await queue(db, BOB, STACKS[6:7])
    await limit(db, Kind.LABEL, "prod", max_active=1)
    await limit(db, Kind.CALLER, "ada", max_active=4)
    dispatching = Dispatching(db, capacity=20)
    started = [*await dispatching.start(), *await dispatching.start()]
    rows = await db.read(lambda tx: [store.find(tx, run_id) for run_id in started])
    assert Counter(row.creator_login for row in rows if row) == {"ada": 4, "bob": 1}
    assert len([row for row in rows if row and row.stack_id in STACKS[:6]]) == 1


async def test_a_caller_at_its_limit_does_not_keep_a_stack_from_the_next_caller(world: World) -> None:
    await queue(world.db, ADA, [STACK] * 3)
    [of_bob] = await queue(world.db, BOB, [STACK])
    await limit(world.db, Kind.CALLER, "ada", max_active=0)
    assert await Dispatching(world.db).start_all(4) == [of_bob]


async def test_a_confirmed_plan_that_a_limit_holds_back_keeps_no_other_from_its_runner(db: Database) -> None:
    await add_stacks(db, STACKS[:2])
    [of_ada] = await queue(db, ADA, STACKS[:1])
    [of_bob] = await queue(db, BOB, STACKS[1:2])
    dispatching = Dispatching(db, capacity=2)
    await dispatching.start()
    runs = tables.runs
    confirmed = sa.update(runs).values(state="CONFIRMED", assignment_id="", runner_id="")
    for updated_at, run_id in enumerate((of_ada, of_bob)):
        one = confirmed.where(runs.c.id == run_id).values(updated_at=updated_at)
        await db.write(lambda tx, one=one: tx.execute(one))  # type: ignore[misc]
    await limit(db, Kind.CALLER, "ada", max_active=0)
    await Dispatching(db, capacity=1).start()
    rows = await db.read(lambda tx: [store.find(tx, run_id) for run_id in (of_ada, of_bob)])
    # Bob's had its turn; that there is no plan to apply is another matter.
    assert [row is not None and row.state for row in rows] == ["CONFIRMED", "FAILED"]


async def test_a_label_that_gets_its_limit_while_many_wait_is_limited_at_once(db: Database) -> None:
    names = [f"prod-{number}" for number in range(200)]
    await add_stacks(db, names, labels=["prod"])
    await queue(db, ADA, names)
    await limit(db, Kind.LABEL, "prod", max_active=1)
    await add_stacks(db, ["the-last-one"])
    [calm] = await queue(db, ADA, ["the-last-one"])
    dispatching = Dispatching(db, capacity=4)
    started: list[str] = []
    for _ in range(20):
        started += await dispatching.start()
    assert calm in started
    assert len(started) == 2


@pytest.mark.parametrize("kind", [Kind.POOL, Kind.CALLER, Kind.LABEL])
async def test_two_schedulers_at_once_start_no_more_than_a_limit_allows(
    database_url: str, kind: Kind
) -> None:
    subject = {Kind.POOL: "public", Kind.CALLER: "ada", Kind.LABEL: "prod"}[kind]
    dbs = (
        [Database(database_url), Database(database_url)]
        if "postgresql" in database_url
        else [Database(database_url)]
    )
    await add_stacks(dbs[0], STACKS, labels=["prod"])
    await queue(dbs[0], ADA, STACKS)
    await limit(dbs[0], kind, subject, max_active=5)
    replicas = [
        Dispatching(db, capacity=4, runner_id=runner_id)
        for db, runner_id in zip([*dbs, dbs[0]], (RUNNER, OTHER_RUNNER), strict=False)
    ]
    for _ in range(3):
        started = await asyncio.gather(*(each.start() for each in replicas for _ in range(2)))
        counted = await dbs[0].read(lambda tx: Caps.read(tx).active(kind, subject))
        assert counted <= 5
        assert sum(map(len, started)) <= 5
        for each in replicas:
            for held in list(each.runner.active.values()):
                await each.end(held.run_id)
    for db in dbs:
        db.close()


@pytest.mark.parametrize(
    ("kind", "subject"), [(Kind.STACK, STACK), (Kind.STACK, EACH), (Kind.CALLER, "ada"), (Kind.CALLER, EACH)]
)
async def test_one_run_more_than_may_wait_is_refused_with_which_limit_and_when_to_retry(
    world: World, kind: Kind, subject: str
) -> None:
    await limit(world.db, kind, subject, max_queued=2)
    await queue(world.db, ADA, [STACK] * 2)
    with pytest.raises(QueueIsFull) as refused:
        await world.db.write(lambda tx: queue_room.take(tx, STACK, "ada"))
    detail, retry = refused.value.details
    assert isinstance(detail, QueueFull)
    of = STACK if kind is Kind.STACK else "ada"
    assert (detail.limit.subject, detail.limit.most, detail.limit.count) == (of, 2, 2)
    assert retry.retry_delay.seconds == 10  # type: ignore[attr-defined]
    assert await Dispatching(world.db).start_all(1)
    await world.db.write(lambda tx: queue_room.take(tx, STACK, "ada"))


async def test_of_many_who_queue_at_once_as_many_get_in_as_the_limit_allows(world: World) -> None:
    await limit(world.db, Kind.CALLER, "ada", max_queued=5)
    await add_stacks(world.db, STACKS)

    async def try_to_queue(stack_id: str) -> bool:
        try:
            await _queue_where_there_is_room(world.db, stack_id)
        except QueueIsFull:
            return False
        return True

    assert sum(await asyncio.gather(*(try_to_queue(stack_id) for stack_id in STACKS))) == 5


async def test_the_hint_when_to_retry_is_how_long_the_stacks_runs_take(world: World) -> None:
    [run] = await queue(world.db, ADA, [STACK])
    dispatching = Dispatching(world.db)
    await dispatching.start()
    await dispatching.end(run)
    took = sa.update(tables.runs).values(finished_at=tables.runs.c.slot_taken_at + 42_000_000)
    await world.db.write(lambda tx: tx.execute(took))
    await limit(world.db, Kind.STACK, STACK, max_queued=0)
    with pytest.raises(QueueIsFull) as refused:
        await world.db.write(lambda tx: queue_room.take(tx, STACK, "ada"))
    assert refused.value.details[1].retry_delay.seconds == 42  # type: ignore[attr-defined]


async def test_a_limit_is_set_changed_and_deleted_each_with_its_audit_event(db: Database) -> None:
    settings = LimitSettings(db)
    made = await settings.set(ADMIN, Limit(Kind.CALLER, "ada", max_active=3), "")
    assert await settings.set(ADMIN, Limit(Kind.CALLER, "ada", max_active=3), made.etag) == made
    after = await settings.set(ADMIN, Limit(Kind.CALLER, "ada", max_queued=9), made.etag)
    assert (after.max_active, after.max_queued, after.id) == (None, 9, made.id)
    with pytest.raises(errors.StaleEtag):
        await settings.set(ADMIN, Limit(Kind.CALLER, "ada", max_active=1), made.etag)
    await settings.delete(ADMIN, Kind.CALLER, "ada", "")
    with pytest.raises(errors.NotFound, match="caller ada"):
        await settings.get(ADMIN, Kind.CALLER, "ada")
    event = tables.audit_events.c
    actions = await db.read(
        lambda tx: tx.execute(sa.select(event.action).where(event.resource_id == made.id)).scalars().all()
    )
    assert actions == ["limit.set", "limit.set", "limit.deleted"]


@pytest.mark.parametrize(
    ("draft", "field"),
    [
        (Limit(Kind.LABEL, EACH, max_active=1), "limit.subject"),
        (Limit(Kind.POOL, "public", max_queued=1), "limit.max_queued"),
        (Limit(Kind.STACK, STACK, max_active=1), "limit.max_active"),
        (Limit(Kind.CALLER, "ada", queue_timeout_us=1), "limit.queue_timeout"),
        (Limit(Kind.CALLER, "ada"), "limit"),
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_a_kind_does_not_have_is_refused_with_what_it_has(
    db: Database, draft: Limit, field: str
) -> None:
    with pytest.raises(errors.InvalidField) as refused:
        await LimitSettings(db).set(ADMIN, draft, "")
    assert [name for name, _ in refused.value.violations] == [field]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_only_an_admin_sees_and_sets_limits(db: Database) -> None:
    settings = LimitSettings(db)
    for attempt in (
        settings.set(BOB, Limit(Kind.CALLER, "bob", max_active=99), ""),
        settings.get(BOB, Kind.CALLER, "bob"),
        settings.page(BOB, ("", ""), 10),
        settings.delete(BOB, Kind.CALLER, "bob", ""),
    ):
        with pytest.raises(errors.NotAllowed):
            await attempt


async def test_a_run_that_waited_too_long_is_discarded_with_the_reason_and_leaves_the_queue(
    world: World,
) -> None:
    now = clock.now_us()
    late = await world.queue(queue_deadline=now - 1, created_at=now - 60_000_001)
    in_time = await world.queue(queue_deadline=now + 5_000_000)
    wait_s = await QueueTimeouts(world.db, Notices(Feeds())).look()
    assert 0 < wait_s <= 5
    row = await world.row(late)
    assert (row.state, row.failure) == ("DISCARDED", run_pb2.RUN_FAILURE_QUEUE_TIMEOUT)
    assert row.state_reason == "no runner had it within 60 s, which is as long as it may wait"
    assert await world.startable() == [in_time]


async def test_a_run_that_has_its_runner_does_not_time_out(world: World) -> None:
    run = await world.queue(queue_deadline=1)
    await world.assign(run)
    assert await QueueTimeouts(world.db, Notices(Feeds())).look() == LOOK_S
    assert await world.state(run) is RunState.READY


async def test_what_a_limit_of_its_own_does_not_set_is_as_for_each(world: World) -> None:
    settings = LimitSettings(world.db)
    await settings.set(ADMIN, Limit(Kind.STACK, EACH, max_queued=1, queue_timeout_us=5_000_000), "")
    await settings.set(ADMIN, Limit(Kind.STACK, STACK, queue_timeout_us=60_000_000), "")
    before = clock.now_us()
    deadline = await world.db.write(lambda tx: queue_room.take(tx, STACK, "ada"))
    assert deadline is not None
    assert deadline - before >= 60_000_000
    await queue(world.db, ADA, [STACK])
    with pytest.raises(QueueIsFull):
        await world.db.write(lambda tx: queue_room.take(tx, STACK, "ada"))


async def test_how_long_a_run_may_wait_is_what_its_caller_asks_else_what_the_stack_says(world: World) -> None:
    settings = LimitSettings(world.db)
    await settings.set(ADMIN, Limit(Kind.STACK, EACH, queue_timeout_us=60_000_000), "")
    asked = rpc.CreateTaskRequest()
    asked.queue_timeout.FromSeconds(5)
    before = clock.now_us()
    of_stack, of_caller = [
        await world.db.write(lambda tx, request=request: queue_room.take(tx, STACK, "ada", request))  # type: ignore[misc]
        for request in (rpc.CreateTaskRequest(), asked)
    ]
    assert of_stack is not None
    assert of_caller is not None
    assert of_stack - before >= 60_000_000
    assert 5_000_000 <= of_caller - before < 60_000_000


async def _queue_where_there_is_room(db: Database, stack_id: str) -> None:
    def unit(tx: sa.Connection) -> None:
        queue_room.take(tx, stack_id, "ada")
        insert_run(tx, ids.new_id("run"), stack_id, ADA, {})

    await db.write(unit)
