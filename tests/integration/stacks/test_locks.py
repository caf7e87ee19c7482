"""Locks: all or none, and only the owner or an admin lets go."""

from __future__ import annotations

import asyncio
import json

import pytest

from control_plane import errors
from control_plane.stacks import locks
from control_plane.stacks.errors import StackLocked
from interlock.v1 import errors_pb2
from tests.integration.stacks.house import ADMIN, OTHER_WRITER, READER, STRANGER, WRITER, House


async def test_a_lock_has_its_owner_and_note_and_changes_the_version(house: House) -> None:
    before = await house.create()

    [after] = await house.locks.lock(WRITER, ["network"], "migrating")

    assert after.lock is not None
    assert (after.lock.owner, after.lock.note) == (WRITER.to_caller(), "migrating")
    assert after.version == before.version + 1
    assert house.woken == ["network"]
    [event] = await house.audited("stack.locked")
    assert (event.caller_login, json.loads(event.details)) == ("will", {"note": "migrating"})


async def test_a_locked_stack_is_refused_to_others_with_its_owner(house: House) -> None:
    await house.create()
    await house.locks.lock(WRITER, ["network"], "migrating")

    with pytest.raises(StackLocked, match="locked by will: migrating") as caught:
        await house.locks.lock(OTHER_WRITER, ["network"], "me too")

    [detail] = [detail for detail in caught.value.details if isinstance(detail, errors_pb2.StackLocked)]
    assert (detail.stack_id, detail.owner.login, detail.note) == ("network", "will", "migrating")


async def test_of_two_who_lock_at_once_one_gets_it(house: House) -> None:
    await house.create()
    outcomes = await asyncio.gather(
        *(house.locks.lock(who, ["network"], "") for who in (WRITER, OTHER_WRITER)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["StackLocked", "list"]
    assert len(await house.audited("stack.locked")) == 1


async def test_two_who_lock_the_same_stacks_in_opposite_order_never_share_them(house: House) -> None:
    names = ["a", "b", "c"]
    for name in names:
        await house.create(name)

    await asyncio.gather(
        house.locks.lock(WRITER, names, ""), house.locks.lock(OTHER_WRITER, names[::-1], ""),
        return_exceptions=True,
    )  # fmt: skip

    owners = {lock.owner.id for name in names if (lock := (await house.load(name)).lock)}
    assert len(owners) == 1


async def test_locking_several_takes_none_where_one_is_anothers(house: House) -> None:
    for name in ("a", "b"):
        await house.create(name)
    await house.locks.lock(OTHER_WRITER, ["b"], "")

    with pytest.raises(StackLocked):
        await house.locks.lock(WRITER, ["a", "b"], "")

    assert (await house.load("a")).lock is None
    assert len(await house.audited("stack.locked")) == 1


async def test_locking_again_renews_the_note_and_keeps_the_time(house: House) -> None:
    await house.create()
    [first] = await house.locks.lock(WRITER, ["network"], "one")
    [second] = await house.locks.lock(WRITER, ["network"], "two")
    assert first.lock is not None
    assert second.lock is not None
    assert (second.lock.note, second.lock.locked_at) == ("two", first.lock.locked_at)


async def test_the_owner_unlocks_and_another_may_lock_then(house: House) -> None:
    await house.create()
    [locked] = await house.locks.lock(WRITER, ["network"], "")
    [unlocked] = await house.locks.unlock(WRITER, ["network"])
    assert (unlocked.lock, unlocked.version) == (None, locked.version + 1)
    await house.locks.lock(OTHER_WRITER, ["network"], "")


async def test_nobody_but_owner_and_admin_unlocks(house: House) -> None:
    for name in ("a", "b"):
        await house.create(name)
    await house.locks.lock(WRITER, ["a"], "")
    await house.locks.lock(OTHER_WRITER, ["b"], "")

    with pytest.raises(errors.NotAllowed, match="only olga or an admin"):
        await house.locks.unlock(WRITER, ["a", "b"])
    assert (await house.load("a")).lock is not None

    await house.locks.unlock(ADMIN, ["a", "b"])
    assert (await house.load("b")).lock is None
    assert [json.loads(event.details)["owner"] for event in await house.audited("stack.unlocked")] == [
        "will",
        "olga",
    ]


async def test_unlocking_what_is_not_locked_changes_nothing(house: House) -> None:
    before = await house.create()
    [after] = await house.locks.unlock(WRITER, ["network"])
    assert after == before
    assert await house.audited("stack.unlocked") == []


async def test_who_may_not_write_may_not_lock_or_unlock(house: House) -> None:
    await house.create()
    for call in (house.locks.lock(READER, ["network"], ""), house.locks.unlock(READER, ["network"])):
        with pytest.raises(errors.NotAllowed):
            await call
    with pytest.raises(errors.NotFound):
        await house.locks.lock(STRANGER, ["network"], "")


async def test_an_unknown_stack_among_others_locks_none(house: House) -> None:
    await house.create()
    with pytest.raises(errors.NotFound, match="'nothing'"):
        await house.locks.lock(WRITER, ["network", "nothing"], "")
    assert (await house.load()).lock is None


async def test_a_lock_stands_against_everybody_else_admins_included(house: House) -> None:
    await house.create()
    [stack] = await house.locks.lock(WRITER, ["network"], "")
    locks.require_not_locked_against(WRITER, stack)
    for other in (OTHER_WRITER, ADMIN):
        with pytest.raises(StackLocked):
            locks.require_not_locked_against(other, stack)
