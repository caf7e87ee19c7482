"""ListRunners: what the database remembers, merged with the connections of now."""

from __future__ import annotations

import json

import pytest

from control_plane import clock, errors
from control_plane.identity import principal
from control_plane.pools.connections import HeldRun
from interlock.v1 import pool_pb2
from interlock.v1 import pool_service_pb2 as rpc
from interlock.v1.runner_service_pb2 import RunnerStatus
from tests.integration.pools.house import CONTEXT, READER, House, hello

HOUR_S = 3600


async def test_a_connected_runner_shows_its_state_and_what_it_runs(house: House) -> None:
    connection = await house.connect((await house.create_token()).secret, hello(version="1.2", capacity=3))
    connection.active["asg_1"] = HeldRun("run_1", "prod", 1)
    house.clock.advance(5)
    connection.last_seen_us = house.clock.now

    (runner,) = await house.list_runners()

    assert (runner.id, runner.name, runner.pool_id) == (hello().runner_id, "r1", "public")
    assert (runner.version, runner.capacity, list(runner.active_run_ids)) == ("1.2", 3, ["run_1"])
    assert (runner.state, runner.state_reason) == (pool_pb2.RUNNER_STATE_READY, "")
    assert runner.last_heartbeat_time == clock.to_timestamp(house.clock.now)
    assert runner.connect_time == clock.to_timestamp(house.clock.now - 5_000_000)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (RunnerStatus(draining=True, reason="drain"), pool_pb2.RUNNER_STATE_DRAINING),
        (RunnerStatus(engine_away=True, reason="no engine"), pool_pb2.RUNNER_STATE_ENGINE_AWAY),
        (RunnerStatus(draining=True, engine_away=True, reason="both"), pool_pb2.RUNNER_STATE_ENGINE_AWAY),
    ],
)
async def test_a_runner_that_takes_no_work_says_why(
    house: House, status: RunnerStatus, state: pool_pb2.RunnerState.ValueType
) -> None:
    connection = await house.connect((await house.create_token()).secret, hello())
    connection.status = status

    (runner,) = await house.list_runners()

    assert (runner.state, runner.state_reason) == (state, status.reason)


async def test_a_pool_counts_its_runners_and_their_room(house: House) -> None:
    secret = (await house.create_token()).secret
    one, two = await house.connect(secret, hello(1)), await house.connect(secret, hello(2))
    one.active["asg_1"] = HeldRun("run_1", "prod", 1)
    two.status = RunnerStatus(draining=True)

    pool = await house.servicer.GetPool(rpc.GetPoolRequest(pool_id="public"), CONTEXT)

    assert (pool.connected_runners, pool.free_capacity) == (2, 1)


async def test_a_runner_that_is_gone_is_shown_for_a_day(house: House) -> None:
    connection = await house.connect((await house.create_token()).secret, hello())
    house.connections.remove(connection)

    house.clock.advance(23 * HOUR_S)
    (runner,) = await house.list_runners()
    assert runner.state == pool_pb2.RUNNER_STATE_DISCONNECTED
    house.clock.advance(2 * HOUR_S)
    assert await house.list_runners() == []


async def test_the_day_begins_when_a_runner_was_last_seen_not_when_it_came(house: House) -> None:
    connection = await house.connect((await house.create_token()).secret, hello())
    house.clock.advance(48 * HOUR_S)
    assert len(await house.list_runners()) == 1
    await house.runners.note_connected()
    house.connections.remove(connection)

    (runner,) = await house.list_runners()

    assert runner.last_heartbeat_time == clock.to_timestamp(house.clock.now)


async def test_runners_are_listed_by_name_page_by_page(house: House) -> None:
    secret = (await house.create_token()).secret
    for number, name in enumerate(["b", "a", "c", "b", "b"]):
        await house.connect(secret, hello(number, name=name))

    seen = []
    request = rpc.ListRunnersRequest(page_size=2)
    while True:
        page = await house.servicer.ListRunners(request, CONTEXT)
        seen += [(runner.name, runner.id[-1]) for runner in page.runners]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token

    assert seen == [("a", "1"), ("b", "0"), ("b", "3"), ("b", "4"), ("c", "2")]


async def test_runners_of_one_pool_are_listed_to_any_caller(house: House) -> None:
    await house.create("Blue")
    await house.connect((await house.create_token("blue")).secret, hello(1))
    await house.connect((await house.create_token("public")).secret, hello(2))
    principal.current.set(READER)

    assert [runner.name for runner in await house.list_runners(pool_id="blue")] == ["r1"]
    assert [runner.name for runner in await house.list_runners()] == ["r1", "r2"]
    with pytest.raises(errors.NotFound):
        await house.list_runners(pool_id="none")


async def test_a_runner_is_audited_when_it_comes_first_and_when_it_changed(house: House) -> None:
    """Invariant 7: every change is in the audit log; a reconnection is none."""
    secret = (await house.create_token()).secret
    await house.connect(secret, hello())
    await house.connect(secret, hello(boot_id="other"))
    await house.connect(secret, hello(version="0.2"))

    assert len(await house.audited("runner.registered")) == 1
    (changed,) = await house.audited("runner.changed")
    assert (changed.caller_login, changed.resource_id) == ("system", hello().runner_id)
    assert json.loads(changed.details)["version"] == "0.2"


async def test_a_runner_that_performs_may_not_come_from_another_machine(house: House) -> None:
    """Invariant 3: its folder was copied, or the machine is gone for good; neither proves that a container is."""
    secret = (await house.create_token()).secret
    await house.connect(secret, hello(machine_id="first"))
    house.runners_may_move = False
    await house.connect(secret, hello(machine_id=""))
    with pytest.raises(errors.AlreadyExists, match=r"another machine.*copied.*abandon"):
        await house.connect(secret, hello(machine_id="second"))
    await house.connect(secret, hello(machine_id="first"))
    house.runners_may_move = True
    await house.connect(secret, hello(machine_id="second"))
