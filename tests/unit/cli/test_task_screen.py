"""What a person who follows a run is told, and when."""

from google.protobuf.timestamp_pb2 import Timestamp

from interlock.cli.task_run import exit_code
from interlock.cli.task_screen import States
from interlock.types import Run, StateChange, Waiting
from interlock.v1.run_pb2 import (
    RUN_FAILURE_COMMAND,
    RUN_FAILURE_INITIALIZATION,
    RUN_STATE_DISCARDED,
    RUN_STATE_FAILED,
    RUN_STATE_FINISHED,
    RUN_STATE_PERFORMING,
    RUN_STATE_PREPARING,
    RUN_STATE_QUEUED,
    RUN_STATE_READY,
    RUN_STATE_STOPPED,
    RunState,
)


def run(*states: RunState.ValueType, waits: str = "", away: bool = False) -> Run:
    """A run that went through these states."""
    return Run(
        id="run_1",
        stack_id="network",
        state=states[-1],
        history=[StateChange(state=state) for state in states],
        waiting=Waiting(message=waits) if waits else None,
        unreachable_since=Timestamp(seconds=1) if away else None,
    )


def told(*runs: Run) -> list[str]:
    states = States()
    return [line for each in runs for line in states.new_lines(each)]


def test_each_state_is_told_once_even_those_that_passed_unseen() -> None:
    lines = told(
        run(RUN_STATE_QUEUED),
        run(RUN_STATE_QUEUED, RUN_STATE_READY, RUN_STATE_PREPARING),
        run(RUN_STATE_QUEUED, RUN_STATE_READY, RUN_STATE_PREPARING),
    )

    assert lines == ["run_1 on network", "queued", "ready", "preparing"]


def test_what_a_run_waits_for_is_told_when_it_changes() -> None:
    lines = told(
        run(RUN_STATE_QUEUED, waits="for run_0"),
        run(RUN_STATE_QUEUED, waits="for run_0"),
        run(RUN_STATE_QUEUED, waits="for a runner"),
    )

    assert lines[2:] == ["waits: for run_0", "waits: for a runner"]


def test_a_runs_place_in_the_queue_is_told_and_how_long_that_may_take() -> None:
    waits = Waiting(message="run_0 comes first", position=3)
    waits.expected_wait.FromSeconds(250)
    queued = Run(id="run_1", stack_id="network", state=RUN_STATE_QUEUED, waiting=waits)
    closer = Run()
    closer.CopyFrom(queued)
    closer.waiting.expected_wait.FromSeconds(200)
    next_one = Run()
    next_one.CopyFrom(queued)
    next_one.waiting.position = 1
    next_one.waiting.ClearField("expected_wait")

    assert told(queued, closer, next_one)[2:] == [
        "waits: run_0 comes first (number 3 in the queue, about 4 min)",
        "waits: run_0 comes first",
    ]


def test_an_unreachable_runner_is_told_and_its_return() -> None:
    lines = told(
        run(RUN_STATE_PERFORMING),
        run(RUN_STATE_PERFORMING, away=True),
        run(RUN_STATE_PERFORMING, away=True),
        run(RUN_STATE_PERFORMING),
    )

    assert len(lines) == 4
    assert "out of reach" in lines[2]
    assert lines[3] == "its runner is back"


def test_a_failed_run_says_the_whole_cause() -> None:
    failed = Run(id="run_1", stack_id="network", state=RUN_STATE_FAILED, state_reason="no such image: x")

    assert told(failed) == ["run_1 on network", "failed: no such image: x"]


def test_the_exit_code_is_the_commands_where_it_was_performed_to_its_end() -> None:
    failed = Run(state=RUN_STATE_FAILED, failure=RUN_FAILURE_COMMAND, exit_code=7)

    assert exit_code(Run(state=RUN_STATE_FINISHED, exit_code=0)) == 0
    assert exit_code(failed) == 7


def test_the_exit_code_is_125_where_the_command_was_not_performed() -> None:
    assert exit_code(Run(state=RUN_STATE_FAILED, failure=RUN_FAILURE_INITIALIZATION, exit_code=1)) == 125
    assert exit_code(Run(state=RUN_STATE_STOPPED)) == 125
    assert exit_code(Run(state=RUN_STATE_DISCARDED)) == 125
