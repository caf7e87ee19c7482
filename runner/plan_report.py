"""A tracked run's plan as the control plane is told of it: which resources change and how, never with which values.

Reads what `terraform show -json PLAN` and `tofu show -json PLAN` print, documented at
https://developer.hashicorp.com/terraform/internals/json-format
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from interlock.v1.run_pb2 import ChangeAction, PlanSummary, ResourceChange
from interlock.v1.runner_service_pb2 import PlanReport

MAX_CHANGES: Final = 5000
MAX_BYTES: Final = 1 << 20

_ACTIONS: Final = {
    ("create",): ChangeAction.CHANGE_ACTION_CREATE,
    ("update",): ChangeAction.CHANGE_ACTION_UPDATE,
    ("delete",): ChangeAction.CHANGE_ACTION_DELETE,
    ("delete", "create"): ChangeAction.CHANGE_ACTION_DELETE_THEN_CREATE,
    ("create", "delete"): ChangeAction.CHANGE_ACTION_CREATE_THEN_DELETE,
    ("forget",): ChangeAction.CHANGE_ACTION_FORGET,
}
_ADDS: Final = {"create"}
_DESTROYS: Final = {"delete"}


def report_of(text: bytes | None, *, has_changes: bool, mask: Callable[[str], str]) -> PlanReport:
    """`text`: the plan as JSON, None where there is none. What is no such JSON is counted as nobody knows how."""
    report = PlanReport(summary=PlanSummary(has_changes=has_changes))
    try:
        resources = list(_resources(json.loads(text))) if text else None
    except (ValueError, TypeError, KeyError, AttributeError):
        resources = None
    if resources is None:
        return report
    summary = report.summary
    summary.is_counted = True
    size_bytes = 0
    listed: list[ResourceChange] = []
    for change, actions, is_import in resources:
        summary.add += bool(_ADDS & actions)
        summary.destroy += bool(_DESTROYS & actions)
        summary.change += actions == {"update"}
        summary.imported += is_import
        size_bytes += change.ByteSize() + 8
        if len(listed) == MAX_CHANGES or size_bytes > MAX_BYTES:
            report.is_cut_off = True
        else:
            listed.append(change)
    report.changes.extend(_masked(listed, mask))
    return report


def _masked(changes: list[ResourceChange], mask: Callable[[str], str]) -> list[ResourceChange]:
    """All names at once, since making a masker takes long; one by one where a secret went over an end of line."""
    names = [name for change in changes for name in (change.address, change.resource_type)]
    masked = mask("\n".join(names)).split("\n")
    if len(masked) != len(names):
        masked = [mask(name) for name in names]
    for index, change in enumerate(changes):
        change.address, change.resource_type = masked[2 * index], masked[2 * index + 1]
    return changes


def _resources(plan: dict[str, Any]) -> Iterator[tuple[ResourceChange, set[str], bool]]:
    """Each that changes, with its actions and whether it is taken over from outside."""
    for resource in plan.get("resource_changes", ()):
        change = resource["change"]
        actions = tuple(change["actions"])
        is_import = bool(change.get("importing"))
        if (action := _ACTIONS.get(actions)) is None:
            if not is_import:
                continue  # no-op and read change nothing
            action = ChangeAction.CHANGE_ACTION_UNSPECIFIED
        listed = ResourceChange(address=resource["address"], resource_type=resource["type"], action=action)
        yield listed, set(actions), is_import
