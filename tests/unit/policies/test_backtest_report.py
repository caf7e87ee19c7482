"""How a backtest is summed up."""

from __future__ import annotations

from control_plane.policies.backtest_report import Tally
from control_plane.policies.retrial import Effect, Retrial
from interlock.v1 import policy_pb2

DENIED = Retrial("allowed", "denied", (Effect.NEWLY_DENIED,), ("no",))
BROKEN = Retrial("allowed", "failed", (Effect.NEWLY_DENIED, Effect.ERROR), ("line 1: x",))
SAME = Retrial("allowed", "allowed")


def added(tally: Tally, retrial: Retrial, *, stack: str = "web", caller: str = "ana") -> None:
    tally.add(retrial, stack_id=stack, caller_login=caller, took_us=100, is_known=True)


def test_changes_are_counted_by_stack_caller_and_message_the_most_frequent_first() -> None:
    tally = Tally()
    for retrial, stack, caller in (
        (SAME, "web", "ana"), (DENIED, "db", "bo"), (DENIED, "web", "bo"), (BROKEN, "web", "ana"),
    ):  # fmt: skip
        added(tally, retrial, stack=stack, caller=caller)
    report = tally.report(policy_pb2.POLICY_KIND_TASK, "p", 10.0)
    assert (report.decisions, report.newly_denied, report.newly_allowed, report.errors) == (4, 3, 0, 1)
    assert report.mean_evaluation_us == 100
    assert [(each.subject, each.newly_denied, each.errors) for each in report.stacks] == [
        ("web", 2, 1), ("db", 1, 0),
    ]  # fmt: skip
    assert [(each.subject, each.newly_denied, each.errors) for each in report.callers] == [
        ("ana", 1, 1), ("bo", 2, 0),
    ]  # fmt: skip
    assert [(each.subject, each.newly_denied) for each in report.messages] == [("line 1: x", 1), ("no", 2)]


def test_messages_that_are_all_different_do_not_fill_the_memory() -> None:
    tally = Tally()
    for number in range(10_050):
        added(tally, Retrial("allowed", "denied", (Effect.NEWLY_DENIED,), (f"no {number}",)))
    report = tally.report(policy_pb2.POLICY_KIND_TASK, "", 10.0)
    assert (report.messages[0].subject, report.messages[0].newly_denied) == ("(others)", 50)
    assert len(report.messages) == 20


def test_progress_tells_what_was_read_apart_from_what_was_evaluated() -> None:
    tally = Tally(read=4, passed_over=3)
    added(tally, SAME)
    progress = tally.progress(9, 1.0)
    assert (progress.read, progress.total, progress.decisions) == (4, 9, 1)
