"""On one stack, callers take turns, and nobody gets it twice while another waits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.queue.order import Contender, ahead, next_on_stack


def lane(
    login: str, run: int = 1, *, pending: int = 1, served: int = 0, turn: int = 0, waits: int = 0
) -> Contender:
    return Contender(
        creator_id=f"key_{login}",
        caller_login=login,
        pending=pending,
        served_at=served,
        turn_at=turn,
        waits_since=waits or served,
        run_id=f"run_{run:03}",
    )


def test_a_caller_whose_turn_it_is_gets_a_stack_that_nobody_has_had() -> None:
    assert next_on_stack("bob", [lane("ada", 1), bob := lane("bob", 2)]) is bob


def test_a_caller_gets_a_stack_before_one_who_came_after_it_last_had_the_slot() -> None:
    assert next_on_stack("bob", [lane("ada", 1, waits=20), bob := lane("bob", 2, served=10)]) is bob


def test_a_caller_who_had_the_slot_while_another_waited_gives_it_up_to_that_one() -> None:
    assert next_on_stack("ada", [lane("ada", 1, served=20), bob := lane("bob", 2, waits=10)]) is bob


def test_of_several_who_are_owed_the_slot_the_one_who_waits_longest_gets_it() -> None:
    waiting = [lane("ada", 1, served=30), lane("bob", 2, waits=20), eve := lane("eve", 3, waits=10)]
    assert next_on_stack("ada", waiting) is eve


def test_a_hold_that_is_first_on_a_stack_goes_before_whoevers_turn_it_is_in_the_pool() -> None:
    hold = replace(lane("ada", 1), is_hold=True)
    assert next_on_stack("bob", [hold, lane("bob", 2)]) is hold


def test_a_hold_that_is_not_first_waits_as_a_task_would() -> None:
    hold = replace(lane("ada", 1, served=5), is_hold=True)
    assert next_on_stack("bob", [hold, bob := lane("bob", 2)]) is bob


def test_a_caller_who_waits_no_more_gets_nothing() -> None:
    assert next_on_stack("eve", [lane("ada"), lane("bob")]) is None


@pytest.mark.parametrize(
    ("before_in_lane", "expected"),
    [(0, 0), (1, 2), (2, 4), (3, 5), (4, 6)],
    ids=["first", "second", "third", "when the other has no more", "the one after that"],
)
def test_lanes_give_one_run_each_in_turn(before_in_lane: int, expected: int) -> None:
    ada, bob = lane("ada", pending=5), lane("bob", 2, pending=2, served=10)
    assert ahead(ada, before_in_lane, [ada, bob]) == expected


def test_the_first_run_of_a_caller_who_had_the_slot_later_stands_behind_one_of_the_others() -> None:
    ada, bob = lane("ada", pending=10_000), lane("bob", 2, served=10)
    assert ahead(bob, 0, [ada, bob]) == 1


def test_the_place_that_is_shown_is_the_one_in_which_runs_start() -> None:
    lanes = {
        each.caller_login: each
        for each in (
            lane("ada", 1, pending=4, served=3),
            lane("bob", 2, pending=2),
            lane("eve", 3, pending=3),
        )
    }
    places = {
        (login, number): ahead(each, number, list(lanes.values()))
        for login, each in lanes.items()
        for number in range(each.pending)
    }
    started: list[tuple[str, int]] = []
    taken = dict.fromkeys(lanes, 0)
    for now in range(100, 109):
        waiting = [each for each in lanes.values() if each.pending]
        chosen = min(waiting, key=lambda each: each.rank)
        login = chosen.caller_login
        started.append((login, taken[login]))
        taken[login] += 1
        lanes[login] = replace(chosen, pending=chosen.pending - 1, served_at=now, turn_at=now)
    assert started == sorted(places, key=lambda run: places[run])
