"""A run that waits says why, the nearest obstacle first."""

from control_plane.runs.waiting import Obstacles, explain
from interlock.v1 import caller_pb2, run_pb2

OWNER = caller_pb2.Caller(id="key_owner", login="ada")


def obstacles(
    *,
    holder: str | None = None,
    before: int = 0,
    lock: caller_pb2.Caller | None = None,
    runners: int = 1,
    free: int = 1,
) -> Obstacles:
    return Obstacles(
        holder_run_id=holder,
        runs_before=before,
        next_run_id="run_a" if before else "run_b",
        lock_owner=lock,
        connected_runners=runners,
        free_capacity=free,
        pool_id="public",
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
