"""Invariant 7: a change, gap or reordering in the log is found by VerifyLog, also when it was made past the triggers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from control_plane import errors
from control_plane.audit import rules
from control_plane.identity import principal
from control_plane.identity.principal import Principal
from interlock.v1 import audit_service_pb2 as rpc
from interlock.v1.audit_pb2 import AuditHead
from tests.integration.audit.house import ADMIN, House

CONTEXT = cast("Any", None)


@pytest.fixture(autouse=True)
def as_admin() -> Iterator[None]:
    token = principal.current.set(ADMIN)
    yield
    principal.current.reset(token)


async def verify(house: House, known_head: AuditHead | None = None) -> rpc.VerifyLogResponse:
    return await house.servicer.VerifyLog(rpc.VerifyLogRequest(known_head=known_head), CONTEXT)


async def test_an_untouched_log_is_intact_and_says_its_head(house: House) -> None:
    await house.sealed(3)
    await house.record()

    response = await verify(house)

    last = (await house.seals())[-1]
    assert (response.intact, response.fault, response.fault_sequence) == (True, "", 0)
    assert (response.events_verified, response.events_unsealed) == (3, 1)
    assert response.head == AuditHead(sequence=3, hash=last.hash)


async def test_an_empty_log_is_intact(house: House) -> None:
    response = await verify(house)

    assert (response.intact, response.events_verified, response.head) == (True, 0, AuditHead())


async def test_a_long_log_is_verified_in_portions(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "BATCH_SEALS", 3)
    await house.sealed(10)

    assert (await verify(house)).events_verified == 10
    await house.tamper("DELETE FROM audit_seals WHERE sequence = 8")
    assert (await verify(house)).fault_sequence == 8


@pytest.mark.parametrize(
    ("tampering", "fault_sequence", "fault"),
    [
        ("UPDATE audit_events SET caller_login = 'eve' WHERE resource_id = 's2'", 3, "was changed"),
        ("UPDATE audit_events SET occurred_at = occurred_at + 1 WHERE resource_id = 's2'", 3, "was changed"),
        ("UPDATE audit_events SET caller = x'ff' WHERE resource_id = 's2'", 3, "was changed"),
        ("UPDATE audit_events SET caller = 'not a blob' WHERE resource_id = 's2'", 3, "was changed"),
        ("UPDATE audit_events SET caller_login = 7 WHERE resource_id = 's2'", 3, "was changed"),
        ("UPDATE audit_seals SET hash = 'f' WHERE sequence = 3", 3, "was changed"),
        ("UPDATE audit_seals SET previous_hash = 'f' WHERE sequence = 3", 3, "does not continue"),
        ("DELETE FROM audit_events WHERE resource_id = 's2'", 3, "is missing"),
        ("DELETE FROM audit_seals WHERE sequence = 3", 3, "seal 3 is missing"),
        ("DELETE FROM audit_seals WHERE sequence = 5", 5, "has no seal and waits for none"),
        ("DELETE FROM audit_seals", 1, "has no seal and waits for none"),
        ("UPDATE audit_seals SET sequence = sequence + 1 WHERE sequence = 5", 5, "seal 5 is missing"),
    ],
)
async def test_tampering_is_found_where_it_was_done(
    house: House, tampering: str, fault_sequence: int, fault: str
) -> None:
    """Invariant 7: a change, gap or reordering is found."""
    await house.sealed(5)
    await house.tamper(tampering)

    response = await verify(house)

    assert not response.intact
    assert response.fault_sequence == fault_sequence
    assert fault in response.fault


async def test_events_in_each_others_place_are_found(house: House) -> None:
    """Invariant 7: reordering is found."""
    await house.sealed(5)
    two, three = (seal.event_id for seal in (await house.seals())[1:3])
    await house.tamper(
        "UPDATE audit_seals SET event_id = 'x' WHERE sequence = 2",
        f"UPDATE audit_seals SET event_id = '{two}' WHERE sequence = 3",
        f"UPDATE audit_seals SET event_id = '{three}' WHERE sequence = 2",
    )

    assert (await verify(house)).fault_sequence == 2


async def test_an_event_that_was_taken_out_before_it_was_sealed_is_found(house: House) -> None:
    """Invariant 7: also what has no seal yet cannot vanish."""
    await house.sealed(1)
    event_id = await house.record()
    await house.tamper("DELETE FROM audit_events WHERE resource_id = 'prod'")
    await house.sealer.seal_all()

    response = await verify(house)

    assert (response.intact, response.fault_sequence) == (False, 2)
    assert event_id in response.fault


async def test_a_log_whose_end_was_cut_off_no_longer_contains_the_head_that_was_noted(house: House) -> None:
    """Invariant 7: with a head noted outside, also the end is safe."""
    await house.sealed(5)
    noted = (await verify(house)).head
    assert (await verify(house, noted)).intact
    await house.tamper(
        "DELETE FROM audit_seals WHERE sequence > 3",
        "DELETE FROM audit_events WHERE resource_id IN ('s3', 's4')",
    )

    assert (await verify(house)).intact
    response = await verify(house, noted)
    assert (response.intact, response.fault_sequence) == (False, 4)
    assert "cut off" in response.fault


async def test_a_head_of_another_log_is_not_contained(house: House) -> None:
    await house.sealed(5)

    response = await verify(house, AuditHead(sequence=2, hash="f" * 64))

    assert (response.intact, response.fault_sequence) == (False, 2)


async def test_a_head_that_cannot_be_is_refused(house: House) -> None:
    with pytest.raises(errors.InvalidField, match=r"known_head\.sequence"):
        await verify(house, AuditHead(sequence=-1))


async def test_only_an_admin_verifies_the_log(house: House) -> None:
    principal.current.set(Principal(id="key_r", login="rob", name="Rob"))

    with pytest.raises(errors.NotAllowed):
        await verify(house)
