"""Whose turn it is: callers take turns in a pool and on a stack, stacks take turns in a caller's, and what a dispatch
costs does not depend on how many wait."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from control_plane.queue import lanes
from control_plane.runs import reach, scheduler, stop, store
from control_plane.stacks import store as stacks
from control_plane.storage import tables
from control_plane.storage.database import Database
from tests.integration.runs.conftest import ADA, World
from tests.integration.runs.dispatching import BOB, EVE, Dispatching, add_stacks, of, queue, queue_many

STACKS = [f"stack-{number:03}" for number in range(100)]


@pytest.mark.parametrize("capacity", [1, scheduler.BATCH])
@pytest.mark.parametrize("stack_id", ["bobs-own", STACKS[-1]])
async def test_a_caller_with_thousands_of_tasks_delays_anothers_first_by_one_dispatch_at_most(
    db: Database, capacity: int, stack_id: str
) -> None:
    await add_stacks(db, [*STACKS, "bobs-own"])
    await queue_many(db, ADA, STACKS, 20)
    dispatching = Dispatching(db, capacity)
    before = await dispatching.start()
    [first_of_bob] = await queue(db, BOB, [stack_id])
    for run_id in before:
        await dispatching.end(run_id)
    assert first_of_bob in (await dispatching.start_all(2))[:2]


async def test_callers_take_turns_on_one_stack_each_with_its_oldest_run(world: World) -> None:
    runs = {
        by.login: await queue(world.db, by, ["network"] * count)
        for by, count in ((ADA, 4), (BOB, 2), (EVE, 1))
    }
    started = await Dispatching(world.db).start_all(7)
    logins = [login for login, _ in await of(world.db, started)]
    assert logins == ["ada", "bob", "eve", "ada", "bob", "ada", "ada"]
    for login, queued in runs.items():
        assert [run for run in started if run in queued] == queued, login


async def test_a_caller_who_is_served_elsewhere_all_the_time_still_gets_its_turn_on_a_stack(
    db: Database,
) -> None:
    await add_stacks(db, ["shared", *STACKS[:10]])
    await queue(db, ADA, ["shared"] * 5)
    dispatching = Dispatching(db, capacity=4)
    started = await dispatching.start()
    await queue(db, BOB, [*STACKS[:10], "shared"])
    seen: list[tuple[str, str]] = []
    for _ in range(5):
        for run_id in started:
            await dispatching.end(run_id)
        started = await dispatching.start()
        seen += await of(db, started)
    on_shared = [login for login, stack_id in seen if stack_id == "shared"]
    assert "bob" in on_shared[:2]


async def test_three_callers_get_a_third_of_the_room_each_whatever_they_share(db: Database) -> None:
    await add_stacks(db, STACKS)
    await queue(db, ADA, STACKS * 2)
    await queue(db, BOB, STACKS * 2)
    await queue(db, EVE, STACKS[:30])
    started = await Dispatching(db, capacity=6).start_all(60)
    assert Counter(login for login, _ in await of(db, started)) == {"ada": 20, "bob": 20, "eve": 20}


async def test_stacks_take_turns_within_a_callers_turn(db: Database) -> None:
    await add_stacks(db, STACKS[:3])
    await queue(db, ADA, [STACKS[0]] * 3 + [STACKS[1]] * 3 + [STACKS[2]] * 3)
    started = await of(db, await Dispatching(db).start_all(9))
    assert [stack_id for _, stack_id in started] == STACKS[:3] * 3


async def test_pools_do_not_count_each_others_turns(db: Database) -> None:
    await add_stacks(db, ["busy"], pool_id="public")
    await db.write(_add_pool)
    await add_stacks(db, ["calm-1", "calm-2"], pool_id="calm")
    await queue(db, BOB, ["calm-1"])
    calm = Dispatching(db, pool_id="calm")
    await calm.start_all(1)
    await queue(db, ADA, ["busy"] * 3)
    await Dispatching(db).start_all(3)
    await queue(db, BOB, ["calm-1"])
    [of_ada] = await queue(db, ADA, ["calm-2"])
    assert (await calm.start_all(1)) == [of_ada]


async def test_while_a_stack_is_locked_its_owner_alone_gets_it(world: World) -> None:
    [of_ada] = await queue(world.db, ADA, ["network"])
    [of_bob] = await queue(world.db, BOB, ["network"])
    await world.db.write(lambda tx: _lock(tx, BOB.id))
    assert await world.startable() == [of_bob]
    await world.db.write(lambda tx: _lock(tx, None))
    assert sorted(await world.startable()) == sorted([of_ada, of_bob])


async def test_a_run_that_comes_back_without_having_run_has_not_had_its_turn(world: World) -> None:
    [first] = await queue(world.db, ADA, ["network"])
    dispatching = Dispatching(world.db)
    assert await dispatching.start() == [first]
    await queue(world.db, BOB, ["network"])
    await world.db.write(lambda tx: reach.give_up(tx, stop.find(tx, first), "gone"))
    dispatching.runner.active.clear()
    assert (await dispatching.start_all(1)) == [first]


async def test_a_stack_that_gets_another_pool_takes_its_queue_along(world: World) -> None:
    await world.db.write(_add_pool)
    [run] = await queue(world.db, ADA, ["network"])

    def move(tx: sa.Connection) -> None:
        stacks.change(tx, "network", pool_id="calm")
        lanes.stack_changed(tx, "network")

    await world.db.write(move)
    assert (await world.startable("public"), await world.startable("calm")) == ([], [run])


async def test_a_run_knows_its_place_and_how_many_stand_before_it(world: World) -> None:
    of_ada = await queue(world.db, ADA, ["network"] * 3)
    [of_bob] = await queue(world.db, BOB, ["network"])
    assert await world.db.read(lambda tx: [_before(tx, run) for run in of_ada]) == [0, 1, 2]
    assert await Dispatching(world.db).start_all(4) == [of_ada[0], of_bob, *of_ada[1:]]


async def test_a_dispatch_asks_as_much_of_the_database_however_many_runs_wait(db: Database) -> None:
    await add_stacks(db, ["first"])
    await queue(db, ADA, ["first"])
    await Dispatching(db).start_all(1)
    counts = []
    for number in (10, 100):
        await add_stacks(db, [f"{number}-{each}" for each in range(number)])
        await queue_many(db, ADA, [f"{number}-{each}" for each in range(number)], 10)
        dispatching = Dispatching(db, capacity=4)
        with _statements(db) as seen:
            await dispatching.start()
        counts.append(len(seen))
    assert counts[0] == counts[1]


async def test_what_is_looked_up_again_and_again_is_found_by_its_index(db: Database) -> None:
    looks: list[tuple[Callable[[sa.Connection], object], str]] = [
        (lambda tx: lanes.open_lines(tx, "public"), "lanes_open"),
        (lambda tx: next(lanes.stacks_of_line(tx, "public", "ada", 16)), "lanes_open"),
        (lambda tx: lanes.claimable(tx, STACKS[7]), "runs_queued"),
        (lambda tx: list(store.to_apply(tx, ["public"], 16)), "runs_(to_apply|one_active|active_by_runner)"),
        (lambda tx: store.slot_times(tx, STACKS[7]), "runs_had_slot"),
        (lambda tx: store.may_time_out(tx, 16), "runs_may_time_out"),
    ]
    await add_stacks(db, STACKS[:10])
    await queue(db, ADA, STACKS[:10])
    for look, index in looks:
        with _statements(db) as seen:
            await db.write(look)
        [(statement, parameters)] = [each for each in seen if each[0].startswith(("SELECT", "WITH"))]
        plan = await db.write(lambda tx, each=(statement, parameters): _plan(tx, *each))  # type: ignore[misc]
        assert re.search(index, plan), plan
        assert not re.search(
            r"Seq Scan on (runs|lanes|slots)|SCAN (runs|lanes|slots|stacks)(?! USING)", plan
        ), plan


@contextmanager
def _statements(db: Database) -> Iterator[list[tuple[str, Any]]]:
    seen: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        seen.append((statement, parameters))

    sa.event.listen(db.engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(db.engine, "before_cursor_execute", note)


def _plan(tx: sa.Connection, statement: str, parameters: Any) -> str:
    """Where PostgreSQL has so few rows, it has to be told that an index is worth its while."""
    if tx.dialect.name == "postgresql":
        tx.exec_driver_sql("SET LOCAL enable_seqscan = off")
        explained = tx.exec_driver_sql(f"EXPLAIN {statement}", parameters)
    else:
        explained = tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    return json.dumps([list(row) for row in explained])


def _before(tx: sa.Connection, run_id: str) -> int:
    row = store.find(tx, run_id)
    assert row is not None
    return store.queued_before(tx, row)


def _lock(tx: sa.Connection, owner_id: str | None) -> None:
    stacks.change(tx, "network", lock_owner_id=owner_id)
    lanes.stack_changed(tx, "network")


def _add_pool(tx: sa.Connection) -> None:
    tx.execute(
        sa.insert(tables.pools),
        {"id": "calm", "name": "calm", "public": False, "labels": [], "container": b"", "created_at": 0},
    )
