"""Invariant 7: every event comes under a seal, once, in an order that stays."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from control_plane.audit import sealer
from control_plane.audit.sealer import LogSealer
from control_plane.storage.database import Database
from tests.integration.audit.house import House


async def seals_within(house: House, count: int, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while len(await house.seals()) < count:
            await asyncio.sleep(0.01)


async def test_events_are_sealed_in_the_order_of_their_ids(house: House) -> None:
    recorded = await house.sealed(3)
    recorded += await house.sealed(2)

    seals = await house.seals()
    assert [seal.event_id for seal in seals] == recorded
    assert [seal.sequence for seal in seals] == [1, 2, 3, 4, 5]


async def test_a_running_sealer_seals_what_is_written_at_its_next_look(house: House) -> None:
    assert sealer.INTERVAL_S < 1  # what is promised is a second
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.sealer.run())
        for count in (1, 2):
            await house.record()
            await seals_within(house, count, 30)
        running.cancel()


async def test_what_was_not_sealed_before_a_restart_is_sealed_after_it(
    house: House, database_url: str
) -> None:
    await house.sealed(2)
    await house.record()
    restarted = Database(database_url)

    assert await LogSealer(restarted).seal_all() == 1
    assert await LogSealer(restarted).seal_all() == 0

    restarted.close()
    verification = await house.verify()
    assert (verification.fault, verification.verified, verification.unsealed) == (None, 3, 0)


async def test_more_events_than_fit_into_one_transaction_make_one_chain(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer, "BATCH_EVENTS", 3)
    await house.sealed(10)

    assert (await house.verify()).verified == 10


async def test_control_planes_that_seal_at_once_make_one_chain(house: House, database_url: str) -> None:
    """Invariant 7: no event is sealed twice, none is left out, whoever seals."""
    others = [Database(database_url) for _ in range(3)]
    sealers = [house.sealer, *(LogSealer(other) for other in others)]

    async def seal(one: LogSealer) -> None:
        for _ in range(5):
            with contextlib.suppress(sa.exc.IntegrityError):
                await one.seal_all()

    for _ in range(5):
        await asyncio.gather(*(house.record() for _ in range(20)), *map(seal, sealers))
    await house.sealer.seal_all()

    for other in others:
        other.close()
    verification = await house.verify()
    assert (verification.fault, verification.verified, verification.unsealed) == (None, 100, 0)


async def test_the_second_of_two_that_take_the_same_sequence_is_refused(house: House) -> None:
    (event_id,) = await house.sealed(1)
    await house.record()

    with pytest.raises(sa.exc.IntegrityError):
        await house.execute("INSERT INTO audit_seals VALUES (1, 'evt_other', '', '')")
    with pytest.raises(sa.exc.IntegrityError):
        await house.execute(f"INSERT INTO audit_seals VALUES (2, '{event_id}', '', '')")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_running_sealer_goes_on_when_the_database_answers_again(house: House) -> None:
    await house.execute("ALTER TABLE audit_seals RENAME TO away")
    await house.record()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        with capture_logs() as logs:
            running = group.create_task(LogSealer(house.db, interval_s=0.01).run())
            while "audit.sealing_failed" not in [entry["event"] for entry in logs]:
                await asyncio.sleep(0.01)
        await house.execute("ALTER TABLE away RENAME TO audit_seals")
        await seals_within(house, 1, 30)
        running.cancel()
