"""The checker of soaks finds each kind of broken promise, and nothing in a history where all were kept."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from tests.soak.checker import violations
from tests.soak.command import Command
from tests.soak.history import Answer, Created, Execution, History, Record

FIRST = Command(key="first", stack_id="network", lines=3, burst=1, exit_code=0)
SECOND = Command(key="second", stack_id="network", lines=2, burst=1, exit_code=3)
WAY = ("QUEUED", "READY", "PREPARING", "INITIALIZING", "PERFORMING")


def record(command: Command, run_id: str, *, start: float, fence: int, output: bytes | None = None) -> Record:
    """Performs one second after it took its slot, and ends two seconds later."""
    end = "FAILED" if command.exit_code else "FINISHED"
    times = (start - 1, start, start + 0.3, start + 0.6, start + 1)
    written = command.output if output is None else output
    return Record(
        run_id=run_id,
        command=command.text,
        stack_id=command.stack_id,
        steps=[*zip(WAY, times, strict=True), (end, start + 3)],
        failure="COMMAND" if command.exit_code else "UNSPECIFIED",
        exit_code=command.exit_code,
        fence=fence,
        output=written,
        output_sha256=hashlib.sha256(written).hexdigest(),
        audited=["task.created", *(f"run.{state.lower()}" for state in (*WAY[1:], end))],
    )


def execution(command: Command, *, start: float, count: int | None) -> Execution:
    return Execution(
        command.key, command.stack_id, f"container-{command.key}", start + 1.1, start + 2.9, count
    )


def kept() -> History:
    """Two runs on one stack, one after the other."""
    return History(
        created=[Created(FIRST, Answer.DONE, "run_1"), Created(SECOND, Answer.DONE, "run_2")],
        watched=[("run_1", FIRST.output), ("run_2", SECOND.output)],
        executions=[execution(FIRST, start=10, count=1), execution(SECOND, start=20, count=2)],
        books={"network": ["begin first a", "end first a 1", "begin second b", "end second b 2"]},
        records=[record(FIRST, "run_1", start=10, fence=1), record(SECOND, "run_2", start=20, fence=2)],
    )


def found(history: History, words: str) -> None:
    said = violations(history)
    assert any(words in each for each in said), said


def test_a_history_where_every_promise_was_kept_has_no_violation() -> None:
    assert violations(kept()) == []


def test_a_request_without_an_answer_may_have_been_done_or_not() -> None:
    history = kept()
    history.created[1] = Created(SECOND, Answer.UNKNOWN)
    third = replace(FIRST, key="third")
    history.created.append(Created(third, Answer.UNKNOWN))
    assert violations(history) == []


def test_an_acknowledged_task_that_is_gone_is_found() -> None:
    history = kept()
    history.created.append(Created(replace(FIRST, key="third"), Answer.DONE, "run_3"))
    found(history, "run_3 was acknowledged and is not there")


def test_a_refused_task_that_exists_is_found() -> None:
    history = kept()
    history.created[0] = Created(FIRST, Answer.REFUSED)
    found(history, "first was refused and is there")


def test_one_request_that_gave_two_runs_is_found() -> None:
    history = kept()
    history.created.append(Created(FIRST, Answer.DONE, "run_9"))
    history.records.append(record(FIRST, "run_9", start=30, fence=3))
    found(history, "the same request first gave several runs")
    found(history, "a task exists 2 times")


def test_a_run_that_nobody_asked_for_is_found() -> None:
    history = kept()
    history.created.pop()
    found(history, "nobody asked for")


def test_two_runs_that_hold_one_slot_are_found() -> None:
    history = kept()
    history.records[1] = record(SECOND, "run_2", start=12, fence=2)
    found(history, "were active at once on network")


def test_a_fencing_token_that_does_not_grow_is_found() -> None:
    history = kept()
    history.records[1] = record(SECOND, "run_2", start=20, fence=1)
    found(history, "the fencing token of network did not grow")


def test_two_commands_that_overlap_outside_are_found() -> None:
    history = kept()
    history.executions[0] = replace(history.executions[0], last_life=21.5)
    found(history, "first and second were performed at once on network")


def test_a_command_that_outlives_its_slot_is_found() -> None:
    history = kept()
    history.executions[0] = replace(history.executions[0], last_life=13.5)
    found(history, "lived 0.500 s longer than it held the slot")


def test_a_command_that_outlives_a_slot_which_an_admin_freed_is_none() -> None:
    history = kept()
    history.abandoned = {"run_1"}
    history.executions[0] = replace(history.executions[0], last_life=13.5)
    assert violations(history) == []


def test_a_second_execution_is_found() -> None:
    history = kept()
    history.books = {"network": ["begin first a", "begin first c", *kept().books["network"][1:]]}
    found(history, "first was performed 2 times")


def test_executions_that_count_over_each_other_are_found() -> None:
    history = kept()
    history.books = {"network": ["begin first a", "begin second b", "end first a 1", "end second b 1"]}
    found(history, "counted over each other")


@pytest.mark.parametrize("state", ["FAILED", "STOPPED"])
def test_a_command_without_its_gate_is_found(state: str) -> None:
    history = kept()
    lost = history.records[0]
    steps = [*lost.steps[:4], (state, 13.0)]
    history.records[0] = replace(lost, steps=steps, failure="RUNNER_LOST", exit_code=None)
    found(history, "first was performed, but its gate was never opened")


def test_a_command_that_begins_before_its_gate_is_found() -> None:
    history = kept()
    history.executions[0] = replace(history.executions[0], began=10.9)
    found(history, "first was performed before its gate was opened")


def test_a_command_whose_stop_was_acknowledged_is_found() -> None:
    history = kept()
    history.stopped = {"run_1"}
    found(history, "though its stop had been acknowledged")


def test_a_lost_result_is_found() -> None:
    history = kept()
    lost = history.records[0]
    history.records[0] = replace(lost, steps=[*lost.steps[:-1], ("FAILED", 13.0)], failure="CONTAINER_LOST")
    found(history, "first came to its end, but is FAILED")


def test_a_command_that_was_cut_off_is_found() -> None:
    history = kept()
    lost = history.records[0]
    history.records[0] = replace(lost, steps=[*lost.steps[:-1], ("FAILED", 13.0)], failure="CONTAINER_LOST")
    history.executions[0] = replace(history.executions[0], count=None)
    found(history, "first passed its gate and was cut off")


def test_a_command_that_ended_while_its_engine_was_down_may_be_lost() -> None:
    history = kept()
    lost = history.records[0]
    history.records[0] = replace(
        record(FIRST, "run_1", start=10, fence=1, output=FIRST.output[:20]), failure="CONTAINER_LOST"
    )
    history.records[0] = replace(
        history.records[0],
        steps=[*lost.steps[:-1], ("FAILED", 13.0)],
        audited=[*lost.audited[:-1], "run.failed"],
    )
    history.watched[0] = ("run_1", FIRST.output[:20])
    found(history, "first came to its end, but is FAILED")
    history.engine_outages = [(12.5, 14.0)]
    assert violations(history) == []


def test_the_last_word_of_a_stopped_shell_is_no_lost_byte() -> None:
    history = kept()
    stopped = record(FIRST, "run_1", start=10, fence=1, output=b"initialized\nTerminated\n")
    history.records[0] = replace(
        stopped,
        steps=[*stopped.steps[:4], ("STOPPED", 11.0)],
        failure="UNSPECIFIED",
        exit_code=None,
        audited=[*stopped.audited[:4], "run.stopped"],
    )
    history.watched[0] = ("run_1", stopped.output)
    history.executions.pop(0)
    history.books = {"network": ["begin second b", "end second b 1"]}
    assert violations(history) == []


def test_what_was_seen_of_a_run_that_was_lost_before_its_gate_may_be_more_than_is_stored() -> None:
    history = kept()
    lost = record(FIRST, "run_1", start=10, fence=1, output=b"")
    history.records[0] = replace(
        lost,
        steps=[*lost.steps[:4], ("FAILED", 11.0)],
        failure="RUNNER_LOST",
        exit_code=None,
        audited=[*lost.audited[:4], "run.failed"],
    )
    history.watched[0] = ("run_1", FIRST.output[:20])
    history.executions.pop(0)
    history.books = {"network": ["begin second b", "end second b 1"]}
    assert violations(history) == []


def test_a_success_that_never_was_is_found() -> None:
    history = kept()
    history.executions.pop(0)
    found(history, "first is FINISHED and did not come to its end")


def test_a_run_that_never_ends_is_found() -> None:
    history = kept()
    history.records[1] = replace(history.records[1], steps=history.records[1].steps[:-1])
    found(history, "run_2 never ended: it is PERFORMING")


def test_a_way_back_from_performing_is_found() -> None:
    history = kept()
    first = history.records[0]
    steps = [*first.steps[:-1], ("QUEUED", 11.5), ("READY", 11.6), ("PERFORMING", 12.0), ("FINISHED", 13.0)]
    history.records[0] = replace(first, steps=steps)
    found(history, "went an impossible way")


OTHER_LOGS = pytest.mark.parametrize(
    "change",
    [
        lambda log: log[:20] + log[21:],
        lambda log: log[:20] + log[10:],
        lambda log: log.replace(b"2", b"3", 1),
        lambda log: log[:-1],
        lambda log: log.replace(b"***", b"a-secret-of-the-soak", 1),
    ],
    ids=["a byte lost", "bytes doubled", "a byte changed", "the end lost", "a secret"],
)


@OTHER_LOGS
def test_a_stored_log_that_is_not_what_was_written_is_found(change: object) -> None:
    assert callable(change)
    history = kept()
    wrong = change(FIRST.output)
    history.records[0] = record(FIRST, "run_1", start=10, fence=1, output=wrong)
    history.watched = [("run_1", wrong)]
    found(history, "the log of run_1 is wrong from byte")


@OTHER_LOGS
def test_a_watcher_that_saw_something_else_is_found(change: object) -> None:
    assert callable(change)
    history = kept()
    history.watched[0] = ("run_1", change(FIRST.output))
    found(history, "a watcher of run_1 saw something else than is stored")


def test_a_log_without_its_recorded_digest_is_found() -> None:
    history = kept()
    history.records[0] = replace(history.records[0], output_sha256="0" * 64)
    found(history, "does not have its recorded SHA-256")


def test_a_change_without_its_audit_event_is_found() -> None:
    history = kept()
    history.records[0] = replace(history.records[0], audited=["task.created", "run.ready", "run.finished"])
    found(history, "the audit log tells another story of run_1")


def test_what_is_left_over_is_found() -> None:
    history = kept()
    history.containers_left = ["interlock-run_1-1"]
    history.held_slots = {"network": "run_2"}
    history.audit_fault = "seal 7"
    history.complaints = ["a caller waits"]
    found(history, "a container was left over: interlock-run_1-1")
    found(history, "run_2 still holds the slot of network")
    found(history, "the audit log is damaged: seal 7")
    found(history, "a caller waits")
