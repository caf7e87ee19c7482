"""Invariants 2 and 3, in the pure table: behind the gate there are only ends, and every active state holds the slot."""

import itertools

import pytest

from control_plane.runs import states
from control_plane.runs.states import RunState
from interlock.v1 import run_pb2

# Written by hand, not derived: the whole machine, as DESIGN.md section 3 gives it.
ALLOWED = {
    ("PENDING_REVIEW", "QUEUED"), ("PENDING_REVIEW", "FAILED"), ("PENDING_REVIEW", "DISCARDED"),
    ("QUEUED", "READY"), ("QUEUED", "DISCARDED"),
    ("READY", "PREPARING"), ("READY", "QUEUED"), ("READY", "DISCARDED"), ("READY", "FAILED"), ("READY", "STOPPED"),
    ("PREPARING", "INITIALIZING"), ("PREPARING", "FAILED"), ("PREPARING", "STOPPED"),
    ("INITIALIZING", "PERFORMING"), ("INITIALIZING", "FAILED"), ("INITIALIZING", "STOPPED"),
    ("PERFORMING", "FINISHED"), ("PERFORMING", "FAILED"),
    ("INITIALIZING", "PLANNING"),
    ("PLANNING", "UNCONFIRMED"), ("PLANNING", "CONFIRMED"), ("PLANNING", "FINISHED"), ("PLANNING", "FAILED"),
    ("PLANNING", "STOPPED"),
    ("UNCONFIRMED", "CONFIRMED"), ("UNCONFIRMED", "DISCARDED"), ("UNCONFIRMED", "FAILED"),
    ("CONFIRMED", "APPLYING"), ("CONFIRMED", "FAILED"), ("CONFIRMED", "STOPPED"),
    ("APPLYING", "FINISHED"), ("APPLYING", "FAILED"),
    ("READY", "HELD"), ("HELD", "EXPIRED"), ("HELD", "FINISHED"), ("HELD", "FAILED"),
    ("EXPIRED", "HELD"), ("EXPIRED", "FINISHED"), ("EXPIRED", "FAILED"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), list(itertools.product(RunState, RunState)))
def test_every_pair_of_states_is_allowed_or_refused_as_the_design_says(
    before: RunState, after: RunState
) -> None:
    if (before.value, after.value) in ALLOWED:
        states.check(before, after)
    else:
        with pytest.raises(states.IllegalTransition):
            states.check(before, after)


@pytest.mark.parametrize("state", [RunState.PERFORMING, RunState.APPLYING])
def test_a_run_that_passed_its_gate_is_never_assigned_again(state: RunState) -> None:
    reachable: set[RunState] = set()
    frontier = {state}
    while frontier:
        frontier = {after for state in frontier for after in states.FOLLOWERS[state]} - reachable
        reachable |= frontier
    assert reachable == {RunState.FINISHED, RunState.FAILED}


def test_a_run_can_be_stopped_in_every_active_state_but_behind_its_gate() -> None:
    behind = {state for state in states.ACTIVE if state.has_passed_gate}
    assert behind == {RunState.PERFORMING, RunState.APPLYING, RunState.HELD, RunState.EXPIRED}
    assert {state for state in RunState if state.may_stop} == states.ACTIVE - behind


def test_a_hold_that_was_received_keeps_the_slot_until_it_ends_and_is_never_given_to_a_runner() -> None:
    reachable: set[RunState] = set()
    frontier = {RunState.HELD}
    while frontier:
        reachable |= frontier
        frontier = {after for state in frontier for after in states.FOLLOWERS[state]} - reachable
    assert reachable == states.LENT | {RunState.FINISHED, RunState.FAILED}


def test_only_a_confirmed_plan_is_ever_applied() -> None:
    assert [state for state in RunState if RunState.APPLYING in states.FOLLOWERS[state]] == [
        RunState.CONFIRMED
    ]
    assert RunState.APPLYING not in states.FOLLOWERS[RunState.DISCARDED]


def test_every_state_is_waiting_active_or_final_and_only_one_of_them() -> None:
    for state in RunState:
        assert [state in states.WAITING, state.is_active, state.is_final].count(True) == 1


def test_the_api_has_a_name_for_every_state_and_no_more() -> None:
    ours = {state.to_proto() for state in RunState}
    assert ours == set(run_pb2.RunState.values()) - {run_pb2.RUN_STATE_UNSPECIFIED}
