"""What the control plane is told of a plan: addresses and actions, in numbers that agree with the tool's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from interlock.v1.run_pb2 import ChangeAction
from interlock.v1.runner_service_pb2 import PlanReport
from runner import plan_report
from runner.plan_report import MAX_CHANGES, report_of


def resource(name: str, *actions: str, **change: object) -> dict[str, Any]:
    return {"address": f"t.{name}", "type": "t", "change": {"actions": actions, **change}}


def report(*resources: dict[str, Any], mask: Any = str) -> PlanReport:
    text = json.dumps({"resource_changes": resources}).encode()
    return report_of(text, has_changes=True, mask=mask)


def numbers(made: PlanReport) -> tuple[int, int, int, int]:
    summary = made.summary
    return summary.add, summary.change, summary.destroy, summary.imported


def test_what_is_replaced_counts_as_added_and_destroyed() -> None:
    made = report(
        resource("a", "create"),
        resource("b", "update"),
        resource("c", "delete"),
        resource("d", "delete", "create"),
        resource("e", "create", "delete"),
        resource("f", "forget"),
    )
    assert numbers(made) == (3, 1, 3, 0)
    assert [ChangeAction.Name(change.action).removeprefix("CHANGE_ACTION_") for change in made.changes] == [
        "CREATE", "UPDATE", "DELETE", "DELETE_THEN_CREATE", "CREATE_THEN_DELETE", "FORGET",
    ]  # fmt: skip


def test_what_stays_or_is_only_read_is_not_listed() -> None:
    made = report(
        resource("a", "no-op"), resource("b", "read"), resource("c", "no-op", importing={"id": "i"})
    )
    assert [change.address for change in made.changes] == ["t.c"]
    assert numbers(made) == (0, 0, 0, 1)


@pytest.mark.parametrize("text", [None, b"", b"no JSON", b"[]", b'{"resource_changes": [{"address": 1}]}'])
def test_what_is_no_plan_as_json_is_counted_as_nobody_knows_how(text: bytes | None) -> None:
    made = report_of(text, has_changes=True, mask=str)
    assert (made.summary.has_changes, made.summary.is_counted, list(made.changes)) == (True, False, [])


def test_more_changes_than_a_message_holds_are_counted_and_cut_off() -> None:
    made = report(*(resource(str(number), "create") for number in range(MAX_CHANGES + 1)))
    assert (made.summary.add, len(made.changes), made.is_cut_off) == (MAX_CHANGES + 1, MAX_CHANGES, True)


def test_no_value_and_no_secret_is_told() -> None:
    made = report(
        resource("a", "create", after={"password": "hunter22"}),
        mask=lambda text: text.replace("t.a", "***"),
    )
    assert b"hunter22" not in made.SerializeToString()
    assert made.changes[0].address == "***"


def test_a_secret_that_goes_over_the_end_of_a_line_is_masked_all_the_same() -> None:
    made = report(
        resource("a\nb", "create"), resource("c", "create"), mask=lambda text: text.replace("a\nb", "***")
    )
    assert [change.address for change in made.changes] == ["t.***", "t.c"]


def test_the_limits_are_those_of_the_protocol() -> None:
    assert (plan_report.MAX_CHANGES, plan_report.MAX_BYTES) == (5000, 1 << 20)
