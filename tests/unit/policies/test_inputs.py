"""Every field of the contract is present, whatever is known."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from control_plane.policies.inputs import (
    Commit,
    Document,
    RequestInfo,
    ReviewInfo,
    Role,
    RunInfo,
    SessionInfo,
    StackInfo,
    access_input,
    approval_input,
    login_input,
    task_input,
    with_command,
)
from policies.workbench import library
from policies.workbench.kinds import Kind

REQUEST = RequestInfo(remote_ip="192.0.2.1", timestamp_ns=1_768_388_400_000_000_001)
BARE = (REQUEST, SessionInfo(login="ann", name="Ann"), StackInfo(id="s", name="S"))
FULL = (
    REQUEST,
    SessionInfo(login="key_1", name="ci", teams=("a",), machine=True, stack_id="other", creator_ip="192.0.2.2"),
    StackInfo(
        id="s", name="S", labels=("x",), roles=(Role(id="r", name="R"),), locked_by="ann", project_root="net",
        tracked_commit=Commit(hash="c0ffee", branch="main", author="Ann", created_at=1, message="m"),
    ),
)  # fmt: skip


CREATOR = FULL[1]
REVIEW = ReviewInfo(
    author="bo", name="Bo", teams=["ops"], state="PENDING_REVIEW", is_approval=True, request=REQUEST
)  # fmt: skip
BARE_RUN = RunInfo(
    id="run_1", type="TRACKED", state="QUEUED", created_at=1, updated_at=2, creator_session=CREATOR
)
FULL_RUN = dataclasses.replace(
    BARE_RUN, type="TASK", command="ls", triggered_by="ann", commit=Commit(hash="c0ffee", branch="main")
)  # fmt: skip


def schema(kind: Kind) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(library.schema(kind))
    return document


def fields(node: Any, path: str = "") -> set[str]:
    """The paths of a document's fields; a list's elements share one path."""
    if isinstance(node, dict):
        return {here for key in node for here in {f"{path}.{key}"} | fields(node[key], f"{path}.{key}")}
    if isinstance(node, list | tuple):
        return {here for element in node for here in fields(element, f"{path}[]")}
    return set()


def schema_fields(node: dict[str, Any], path: str = "") -> set[str]:
    found = set()
    for option in [node, *node.get("anyOf", [])]:
        for key, value in option.get("properties", {}).items():
            found |= {f"{path}.{key}"} | schema_fields(value, f"{path}.{key}")
        if "items" in option:
            found |= schema_fields(option["items"], f"{path}[]")
    return found


def test_a_full_task_input_has_just_the_fields_of_the_schema() -> None:
    assert fields(task_input(*FULL, "ls")) == schema_fields(schema(Kind.TASK))


def test_a_full_access_input_has_just_the_fields_of_the_schema() -> None:
    # The schema has one field more: policies may name the chat that there is none of.
    assert fields(access_input(*FULL)) == schema_fields(schema(Kind.ACCESS)) - {".slack"}


def test_a_full_approval_input_has_just_the_fields_of_the_schema() -> None:
    rejection = dataclasses.replace(REVIEW, is_approval=False)
    document = approval_input(FULL_RUN, FULL[2], [REVIEW, rejection], [REVIEW, rejection])
    assert fields(document) == schema_fields(schema(Kind.APPROVAL))


def test_a_full_login_input_has_just_the_fields_of_the_schema() -> None:
    document = login_input(REQUEST, CREATOR)
    document["roles"] = [{"id": "r", "name": "R"}]
    assert fields(document) == schema_fields(schema(Kind.LOGIN))


def test_what_is_unknown_of_a_run_is_present_and_empty() -> None:
    bare, full = (approval_input(run, FULL[2], [])["run"] for run in (BARE_RUN, FULL_RUN))

    assert bare.keys() == full.keys()
    assert bare["commit"].keys() == full["commit"].keys()
    assert bare["command"] is None


@pytest.mark.parametrize("part", ["request", "session", "stack"])
def test_what_is_unknown_is_present_and_empty(part: str) -> None:
    bare, full = (access_input(*infos)[part] for infos in (BARE, FULL))

    assert bare.keys() == full.keys()


def test_the_command_is_seen_by_task_policies_only() -> None:
    access: Document = access_input(*BARE)

    task = with_command(access, "ls")

    assert task["request"] == {**access["request"], "command": "ls"}
    assert "command" not in access["request"]


def test_the_time_keeps_its_nanoseconds() -> None:
    assert '"timestamp_ns": 1768388400000000001' in json.dumps(access_input(*BARE))


def test_all_schemas_agree_on_what_the_kinds_share() -> None:
    task, access, approval, login = (schema(kind)["properties"] for kind in Kind)
    creator = approval["run"]["properties"]["creator_session"]

    assert approval["stack"] == access["stack"]
    assert creator["properties"] == login["session"]["properties"] == access["session"]["properties"]
    assert login["request"] == access["request"]

    del task["request"]["properties"]["command"]
    task["request"]["required"].remove("command")
    # Of the chat that there is none of, see above.
    del access["slack"]

    assert task == access
