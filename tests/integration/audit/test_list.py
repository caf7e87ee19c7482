"""ListEvents: filters, pages, and what a reader sees of an event."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from control_plane import clock, errors
from control_plane.audit import events
from control_plane.identity import principal
from control_plane.identity.principal import Principal
from control_plane.paging import BadPageToken
from interlock.v1 import audit_service_pb2 as rpc
from tests.integration.audit.house import ADMIN, House

CONTEXT = cast("Any", None)
ROB = Principal(id="key_r", login="rob", name="Rob")


@pytest.fixture(autouse=True)
def as_admin() -> Iterator[None]:
    token = principal.current.set(ADMIN)
    yield
    principal.current.reset(token)


async def listed(house: House, **fields: Any) -> list[str]:
    response = await house.servicer.ListEvents(rpc.ListEventsRequest(**fields), CONTEXT)
    return [event.id for event in response.events]


async def test_an_event_shows_who_did_what_from_where_and_its_place_in_the_chain(house: House) -> None:
    await house.db.write(
        lambda connection: events.record(
            connection,
            ADMIN,
            "stack.locked",
            "stack",
            "prod",
            stack_id="prod",
            details={"note": "größer", "a": 1},
        )
    )
    await house.sealer.seal_all()

    (event,) = (await house.servicer.ListEvents(rpc.ListEventsRequest(), CONTEXT)).events

    assert event.caller == ADMIN.to_caller()
    assert (event.action, event.resource_type, event.resource_id) == ("stack.locked", "stack", "prod")
    assert (event.stack_id, event.remote_ip) == ("prod", "192.0.2.1")
    assert event.details_json == '{"a": 1, "note": "größer"}'
    assert json.loads(event.details_json) == {"note": "größer", "a": 1}
    (seal,) = await house.seals()
    assert (event.sequence, event.hash, event.previous_hash) == (1, seal.hash, "0" * 64)
    assert abs(clock.from_timestamp(event.event_time) - clock.now_us()) < 60_000_000


async def test_an_event_that_is_not_sealed_yet_is_listed_without_a_place(house: House) -> None:
    await house.record()

    (event,) = (await house.servicer.ListEvents(rpc.ListEventsRequest(), CONTEXT)).events

    assert (event.sequence, event.hash) == (0, "")


async def test_filters_leave_only_what_was_asked_for(house: House) -> None:
    lock = await house.record("stack.locked", "prod", stack_id="prod")
    denial = await house.record("task.denied", "run_1", stack_id="prod", caller=ROB)
    task = await house.record("task.created", "run_2", stack_id="test")
    token = await house.record("pool_token.created", "ptk_1")
    lookalike = await house.record("poolxtoken.created", "x")

    assert await listed(house) == [lookalike, token, task, denial, lock]
    assert await listed(house, caller_login="rob") == [denial]
    assert await listed(house, action="task.denied") == [denial]
    assert await listed(house, action="task.") == [task, denial]
    assert await listed(house, action="task") == []
    assert await listed(house, action="pool_token.") == [token]
    assert await listed(house, resource_id="run_2") == [task]
    assert await listed(house, stack_id="prod") == [denial, lock]
    assert await listed(house, stack_id="prod", action="task.") == [denial]


async def test_times_bound_what_is_listed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock.now_us()
    recorded = []
    for offset in range(3):
        monkeypatch.setattr(clock, "now_us", lambda offset=offset: now + offset)
        recorded.append(await house.record())

    one, two, three = recorded
    at = clock.to_timestamp
    assert await listed(house, after_time=at(now + 1)) == [three, two]
    assert await listed(house, before_time=at(now + 1)) == [one]
    assert await listed(house, after_time=at(now + 1), before_time=at(now + 2)) == [two]
    assert await listed(house, after_time=Timestamp(seconds=2**62)) == []
    assert await listed(house, before_time=Timestamp(seconds=2**62)) == [three, two, one]
    assert await listed(house, before_time=Timestamp(seconds=-(2**62))) == []


async def test_pages_hold_every_event_once_also_while_the_log_grows(house: House) -> None:
    recorded = [await house.record() for _ in range(5)]
    request = rpc.ListEventsRequest(page_size=2)
    seen = []
    while True:
        page = await house.servicer.ListEvents(request, CONTEXT)
        seen += [event.id for event in page.events]
        await house.record()
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token

    assert seen == recorded[::-1]


async def test_a_page_token_of_another_query_is_refused(house: House) -> None:
    for _ in range(3):
        await house.record()
    page = await house.servicer.ListEvents(rpc.ListEventsRequest(page_size=1), CONTEXT)

    with pytest.raises(BadPageToken):
        await listed(house, stack_id="prod", page_token=page.next_page_token)


async def test_a_caller_that_somebody_damaged_does_not_hide_the_event(house: House) -> None:
    event_id = await house.record()
    await house.tamper("UPDATE audit_events SET caller = x'ff'")

    (event,) = (await house.servicer.ListEvents(rpc.ListEventsRequest(), CONTEXT)).events

    assert (event.id, event.caller.login) == (event_id, "ada")


async def test_only_an_admin_reads_the_log(house: House) -> None:
    principal.current.set(ROB)

    with pytest.raises(errors.NotAllowed):
        await listed(house)
