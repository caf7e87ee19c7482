"""A run that waits says why, the nearest obstacle first."""

from types import SimpleNamespace
from typing import Any

import pytest

from control_plane.limits.limit import Kind, Reached
from control_plane.runs.waiting import Obstacles, expected_wait_s, explain
from interlock.v1 import caller_pb2, run_pb2

OWNER = caller_pb2.Caller(id="key_owner", login="ada")


def obstacles(
    *,
    holder: str | None = None,
    before: int = 0,
    lock: caller_pb2.Caller | None = None,
    runners: int = 1,
    free: int = 1,
    limit: Reached | None = None,
    expected: int | None = None,
) -> Obstacles:
    return Obstacles(
        holder_run_id=holder,
        runs_before=before,
        next_run_id="run_a" if before else "run_b",
        lock_owner=lock,
        connected_runners=runners,
        free_capacity=free,
        pool_id="public",
        limit=limit,
        expected_wait_s=expected,
    )


def test_a_run_waits_for_the_run_that_holds_the_slot() -> None:
    why = explain("key_me", obstacles(holder="run_a"))
    assert why is not None
    assert (why.reason, why.blocking_run_id, why.runs_ahead) == (run_pb2.WAIT_REASON_SLOT_TAKEN, "run_a", 1)


def test_a_run_waits_for_the_owner_of_the_lock() -> None:
    why = explain("key_me", obstacles(lock=OWNER))
    assert why is not None
    assert (why.reason, why.lock_owner.login) == (run_pb2.WAIT_REASON_STACK_LOCKED, "ada")


def test_the_owner_of_the_lock_does_not_wait_for_it() -> None:
    assert explain("key_owner", obstacles(lock=OWNER)) is None


def test_a_run_waits_for_those_that_were_queued_before_it() -> None:
    why = explain("key_me", obstacles(before=1))
    assert why is not None
    assert (why.reason, why.blocking_run_id, why.runs_ahead) == (run_pb2.WAIT_REASON_EARLIER_RUN, "run_a", 1)


def test_a_run_waits_for_a_runner_to_connect() -> None:
    why = explain("key_me", obstacles(runners=0, free=0))
    assert why is not None
    assert why.reason == run_pb2.WAIT_REASON_NO_RUNNER


def test_a_run_waits_for_a_runner_with_room() -> None:
    why = explain("key_me", obstacles(free=0))
    assert why is not None
    assert why.reason == run_pb2.WAIT_REASON_NO_CAPACITY


def test_a_run_that_is_about_to_start_waits_for_nothing() -> None:
    assert explain("key_me", obstacles()) is None


@pytest.mark.parametrize(
    ("reached", "message"),
    [
        (Reached(Kind.POOL, "public", 4, 4), "4 runs of pool public are active, and a limit allows 4"),
        (
            Reached(Kind.LABEL, "prod", 1, 2),
            "2 runs of stacks with label prod are active, and a limit allows 1",
        ),
        (Reached(Kind.CALLER, "ada", 0, 0), "0 runs of ada are active, and a limit allows 0"),
    ],
)
def test_a_run_waits_for_a_limit_and_says_which(reached: Reached, message: str) -> None:
    why = explain("key_me", obstacles(limit=reached, free=0))
    assert why is not None
    assert (why.reason, why.message, why.position) == (run_pb2.WAIT_REASON_LIMIT, message, 1)
    assert (why.limit.subject, why.limit.most, why.limit.count) == (
        reached.subject,
        reached.most,
        reached.count,
    )


def test_a_run_that_others_come_before_tells_its_place_and_what_it_expects() -> None:
    why = explain("key_me", obstacles(holder="run_0", before=2, expected=90))
    assert why is not None
    assert (why.runs_ahead, why.position, why.expected_wait.seconds) == (3, 3, 90)


def test_a_run_that_waits_for_a_lock_expects_nothing() -> None:
    why = explain("key_me", obstacles(lock=OWNER, expected=90))
    assert why is not None
    assert not why.HasField("expected_wait")


def slot(holder: str | None = None, **columns: object) -> Any:
    of_holder = {"holder_state": "PERFORMING", "slot_taken_at": 0, "unreachable_since": None}
    return SimpleNamespace(holder_run_id=holder, **{**of_holder, **columns})


@pytest.mark.parametrize(
    ("row", "runs_before", "expected_s"),
    [
        (slot(), 0, 0),
        (slot(), 3, 60),
        (slot("run_0", slot_taken_at=95_000_000), 0, 15),
        (slot("run_0", slot_taken_at=95_000_000), 2, 55),
        (slot("run_0", slot_taken_at=10_000_000), 1, 20),
    ],
    ids=["it is next", "three before it", "one is active", "that and two more", "one is active for long"],
)
def test_the_expected_wait_is_what_the_last_runs_took(row: Any, runs_before: int, expected_s: int) -> None:
    assert expected_wait_s(row, [20_000_000, 1_000_000, 90_000_000], runs_before, 100_000_000) == expected_s


@pytest.mark.parametrize(
    ("row", "times_us"),
    [
        (slot("run_0"), []),
        (slot("run_0", holder_state="UNCONFIRMED"), [20_000_000]),
        (slot("run_0", unreachable_since=1), [20_000_000]),
        (slot("run_0", slot_taken_at=None, holder_state="HELD"), [20_000_000]),
    ],
    ids=["no run has ended yet", "a plan waits for somebody", "out of reach", "lent to somebody outside"],
)
def test_where_nobody_can_know_nothing_is_expected(row: Any, times_us: list[int]) -> None:
    assert expected_wait_s(row, times_us, 1, 100_000_000) is None
