"""The hash chain as values. Invariant 7: a change, gap or reordering in the log is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import pytest

from control_plane.audit import chain
from control_plane.audit.chain import GENESIS, Event, Head, Seal, Verifier


def event(number: int = 1) -> Event:
    return Event(
        id=f"evt_{number}",
        occurred_at=1_800_000_000_000_000 + number,
        caller_id="key_1",
        caller_login="ada",
        caller=b"\x0a\x05key_1",
        action="stack.locked",
        resource_type="stack",
        resource_id="prod",
        stack_id="prod",
        remote_ip="192.0.2.1",
        details="{}",
    )


def log(length: int = 5) -> list[tuple[Seal, Event]]:
    events = [event(number) for number in range(1, length + 1)]
    return list(zip(chain.seal(Head(), events), events, strict=True))


def fault_in(
    entries: Sequence[tuple[Seal, Event | None]], known_head: Head | None = None
) -> tuple[int, str] | None:
    verifier = Verifier(known_head)
    for seal, sealed in entries:
        if not verifier.take(seal, sealed):
            break
    fault = verifier.finish()
    return None if fault is None else (fault.sequence, fault.problem)


def test_seals_count_from_one_and_each_continues_the_one_before() -> None:
    seals = [seal for seal, _ in log(3)]

    assert [seal.sequence for seal in seals] == [1, 2, 3]
    assert [seal.previous_hash for seal in seals] == [GENESIS, seals[0].hash, seals[1].hash]


def test_sealing_in_portions_gives_the_same_chain_as_sealing_at_once() -> None:
    events = [event(number) for number in range(1, 5)]
    first = list(chain.seal(Head(), events[:1]))
    rest = list(chain.seal(first[-1].head, events[1:]))

    assert first + rest == [seal for seal, _ in log(4)]


def test_the_form_of_what_is_hashed_stays_as_it_was_released() -> None:
    golden = "801ed29bb61fd39d4ec537fe06c60f78c75b8f9df5e43a7634124ab9d47cc146"

    assert chain.event_hash(event(), 1, GENESIS) == golden


def test_a_log_that_nobody_touched_is_intact() -> None:
    assert fault_in(log()) is None
    assert fault_in([]) is None


@pytest.mark.parametrize("column", [column.name for column in fields(Event)])
def test_a_change_to_any_column_of_an_event_is_found(column: str) -> None:
    entries: list[tuple[Seal, Event | None]] = [*log()]
    seal, sealed = entries[2]
    assert sealed is not None
    value = getattr(sealed, column)
    changed: Any = value + 1 if isinstance(value, int) else value * 2
    entries[2] = (seal, replace(sealed, **{column: changed}))

    assert fault_in(entries) == (3, f"event {seal.event_id} or its seal 3 was changed")


def test_bytes_that_move_from_one_column_to_the_next_are_found() -> None:
    one = replace(event(), resource_type="stack", resource_id="prod")
    other = replace(event(), resource_type="stackp", resource_id="rod")

    assert chain.event_hash(one, 1, GENESIS) != chain.event_hash(other, 1, GENESIS)


def test_a_value_of_another_type_is_found_and_is_no_error() -> None:
    entries: list[tuple[Seal, Event | None]] = [*log()]
    seal, sealed = entries[2]
    assert sealed is not None
    entries[2] = (seal, replace(sealed, details=None))  # type: ignore[arg-type]

    assert fault_in(entries) == (3, "event evt_3 or its seal 3 was changed")


def test_a_changed_seal_is_found() -> None:
    entries: list[tuple[Seal, Event | None]] = [*log()]
    entries[2] = (replace(entries[2][0], hash="f" * 64), entries[2][1])

    assert fault_in(entries) == (3, "event evt_3 or its seal 3 was changed")


def test_an_event_with_a_seal_made_anew_is_found_by_the_next_seal() -> None:
    entries: list[tuple[Seal, Event | None]] = [*log()]
    forged = replace(event(3), caller_login="eve")
    (seal,) = chain.seal(entries[1][0].head, [forged])
    entries[2] = (seal, forged)

    fault = fault_in(entries)
    assert fault is not None
    assert fault[0] == 4
    assert "does not continue the one before" in fault[1]


def test_a_gap_is_found() -> None:
    entries: list[tuple[Seal, Event | None]] = [*log()]
    del entries[2]

    assert fault_in(entries) == (3, "seal 3 is missing; the next one is 4")


def test_a_cut_off_beginning_is_found() -> None:
    assert fault_in(log()[2:]) == (1, "seal 1 is missing; the next one is 3")


def test_two_events_in_each_others_place_are_found() -> None:
    entries: list[tuple[Seal, Event | None]] = [*log()]
    (one, first), (two, second) = entries[1], entries[2]
    entries[1], entries[2] = (replace(two, sequence=2), second), (replace(one, sequence=3), first)

    fault = fault_in(entries)
    assert fault is not None
    assert fault[0] == 2
    assert "order" in fault[1]


def test_a_missing_event_is_found() -> None:
    entries: list[tuple[Seal, Event | None]] = [*log()]
    entries[2] = (entries[2][0], None)

    assert fault_in(entries) == (3, "event evt_3 of seal 3 is missing")


def test_a_cut_off_end_is_found_by_a_head_that_was_noted() -> None:
    entries: list[tuple[Seal, Event | None]] = [*log()]
    known = entries[-1][0].head

    assert fault_in(entries, known) is None
    assert fault_in(entries[:3], known) == (4, "the log ends at 3, before the known head 5: it was cut off")


def test_a_log_that_was_written_anew_is_found_by_a_head_that_was_noted() -> None:
    known = log()[2][0].head
    forged = [replace(event(number), caller_login="eve") for number in range(1, 6)]
    entries = list(zip(chain.seal(Head(), forged), forged, strict=True))

    assert fault_in(entries) is None
    assert fault_in(entries, known) == (3, "seal 3 is not the known head: the log was written anew")
