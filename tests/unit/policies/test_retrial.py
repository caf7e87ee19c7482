"""A recorded decision again, with one policy's part given to another text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from control_plane.policies import retrial
from control_plane.policies.combine import Evaluation, PolicyRef, RuleValue
from control_plane.policies.errors import EvaluationFailed
from control_plane.policies.retrial import Effect, Said
from policies.workbench.kinds import Kind

CANDIDATE = PolicyRef("", "candidate.rego", 1)
BROKEN = EvaluationFailed("line 3: eval_conflict_error", policy_name="candidate.rego")


def says(**rules: object) -> Evaluation:
    """The text's answer; a list stands for a set, as in JSON."""
    types = {bool: "boolean", list: "set", int: "number", dict: "object"}
    return Evaluation(
        CANDIDATE, {name: RuleValue(types[type(value)], value) for name, value in rules.items()}
    )


def asked(kind: str, policy_id: str, **results: object) -> dict[str, Any]:
    return {"kind": kind, "id": policy_id, "name": policy_id, "revision": 1, "results": results}


def unasked(kind: str, policy_id: str) -> dict[str, Any]:
    return {"kind": kind, "id": policy_id, "name": policy_id, "revision": 1}


def out(outcome: str) -> dict[str, str]:
    """The result of an approval or a login."""
    return {"outcome": outcome}


WRITES = asked("access", "writers", write=True)
TASK = {"allowed": True, "access": "write", "messages": []}
FAILED = {"allowed": False, "outcome": "undecided", "failure": "x"}
DENIES = asked("task", "a", deny=["no"])
APPROVES, ALSO_APPROVES = asked("approval", "a", approve=True), asked("approval", "b", approve=True)
REJECTS = asked("approval", "a", reject=True)
LETS_IN = asked("login", "a", allow=True)
DENIED = {"allowed": False, "access": "write", "messages": ["no"]}


@pytest.mark.parametrize(
    ("kind", "policies", "result", "replaces", "said", "was", "would_be", "effects"),
    [
        # Added.
        ("task", [WRITES, asked("task", "a", deny=[])], TASK, "", says(deny=["x"]), "allowed", "denied", "newly_denied"),
        ("task", [WRITES], TASK, "", says(deny=[]), "allowed", "allowed", ""),
        ("task", [DENIES], DENIED, "", says(deny=["x"]), "denied", "denied", ""),
        ("access", [WRITES], TASK, "", says(deny_write=True), "write", "read", "newly_denied"),
        ("access", [WRITES], TASK, "", says(deny=True), "write", "none", "newly_denied"),
        ("access", [], {"access": "none", "allowed": False}, "", says(read=True), "none", "read", "newly_allowed"),
        ("access", [asked("access", "r", read=True)], {"access": "read"},
         "", says(write=True), "read", "write", "newly_allowed"),
        ("approval", [APPROVES], out("approved"), "", says(), "approved", "undecided", "newly_denied"),
        ("approval", [APPROVES], out("approved"), "", says(reject=True), "approved", "rejected", "newly_denied"),
        ("approval", [asked("approval", "a")], out("undecided"), "", says(approve=True), "undecided", "undecided", ""),
        ("login", [LETS_IN], out("allowed"), "", says(deny=True), "allowed", "denied", "newly_denied"),
        ("login", [LETS_IN], out("allowed"), "", says(admin=True), "allowed", "admin", "newly_allowed"),
        ("login", [asked("login", "a", admin=True)], out("admin"),
         "", says(deny_admin=True), "admin", "denied", "newly_denied"),
        # Nothing counted then: whoever came in came in as they are, and now this one has to let them in.
        ("login", [], out("allowed"), "", says(), "allowed", "denied", "newly_denied"),
        # In another's place.
        ("task", [DENIES], DENIED, "a", says(deny=[]), "denied", "allowed", "newly_allowed"),
        ("task", [DENIES, asked("task", "b", deny=["b"])], DENIED, "a", says(deny=[]), "denied", "denied", ""),
        ("access", [WRITES, asked("access", "z", deny_write=False)], TASK,
         "writers", says(), "write", "none", "newly_denied"),
        ("approval", [asked("approval", "a"), ALSO_APPROVES], out("undecided"),
         "a", says(approve=True), "undecided", "approved", "newly_allowed"),
        ("approval", [REJECTS], out("rejected"),
         "a", says(), "rejected", "undecided", "newly_allowed"),
        # Errors deny; where it was denied anyway they are errors alone.
        ("task", [], TASK, "", BROKEN, "allowed", "failed", "newly_denied error"),
        ("task", [DENIES], DENIED, "", BROKEN, "denied", "failed", "error"),
        ("task", [], TASK, "", says(deny={"a": 1}), "allowed", "failed", "newly_denied error"),
        ("task", [], TASK, "", says(), "allowed", "failed", "newly_denied error"),
        ("access", [WRITES], TASK, "", says(write=3), "write", "failed", "newly_denied error"),
        ("approval", [APPROVES], out("approved"), "", BROKEN, "approved", "failed", "newly_denied error"),
        ("approval", [REJECTS], out("rejected"), "", BROKEN, "rejected", "failed", "newly_allowed error"),
        ("login", [LETS_IN], out("allowed"), "", BROKEN, "allowed", "failed", "newly_denied error"),
        # Stored before results were.
        ("task", [unasked("task", "a")], {"allowed": True}, "", says(deny=["x"]), "allowed", "unknown", ""),
        ("task", [unasked("task", "a")], {"allowed": True}, "a", says(deny=["x"]), "allowed", "denied", "newly_denied"),
        # It failed then. Alone, the text decides; beside others, nobody knows what they say.
        ("task", [unasked("task", "a")], FAILED, "a", says(deny=[]), "failed", "allowed", "newly_allowed"),
        ("task", [unasked("task", "a")], FAILED, "a", says(deny=["no"]), "failed", "denied", ""),
        ("task", [unasked("task", "a"), unasked("access", "w")], FAILED, "a", says(deny=[]), "failed", "unknown", ""),
        ("task", [unasked("task", "a")], FAILED, "", BROKEN, "failed", "failed", "error"),
        ("approval", [unasked("approval", "a")], FAILED, "a", says(approve=True), "failed", "approved", "newly_allowed"),
    ],
)  # fmt: skip
def test_the_whole_decision_is_compared_in_the_words_of_its_kind(
    kind: str,
    policies: list[dict[str, Any]],
    result: dict[str, Any],
    replaces: str,
    said: Said,
    was: str,
    would_be: str,
    effects: str,
) -> None:
    part = retrial.part_of(Kind(kind), policies, result, replaces=replaces)
    assert part is not None
    again = retrial.retry(part, said)
    assert (again.was, again.would_be) == (was, would_be)
    assert again.effects == tuple(map(Effect, effects.split()))


@pytest.mark.parametrize(
    ("kind", "policies", "result", "replaces"),
    [
        ("access", [], TASK, ""),  # an admin
        ("task", [asked("access", "r", read=True)], {"access": "read", "allowed": False}, ""),
        ("task", [asked("task", "b", deny=[])], TASK, "a"),
        ("access", [asked("task", "a", deny=[])], TASK, "a"),
        ("approval", [asked("approval", "b")], out("undecided"), "a"),
        ("login", [], out("allowed"), "a"),
    ],
)
def test_a_decision_in_which_the_policy_has_no_say_is_passed_over(
    kind: str, policies: list[dict[str, Any]], result: dict[str, Any], replaces: str
) -> None:
    assert retrial.part_of(Kind(kind), policies, result, replaces=replaces) is None


@pytest.mark.parametrize(
    ("policies", "result", "replaces", "said", "messages"),
    [
        ([], TASK, "", says(deny=["second", "first"]), ("first", "second")),
        ([asked("task", "a", deny=["gone"])], DENIED, "a", says(deny=[]), ("gone",)),
        ([], TASK, "", BROKEN, ("line 3: eval_conflict_error",)),
        ([unasked("task", "a")], FAILED, "a", says(deny=[]), ("failed -> allowed",)),
    ],
)
def test_a_change_of_a_task_is_told_by_the_policies_own_words(
    policies: list[dict[str, Any]], result: dict[str, Any], replaces: str, said: Said, messages: tuple[str]
) -> None:
    part = retrial.part_of(Kind.TASK, policies, result, replaces=replaces)
    assert part is not None
    assert retrial.retry(part, said).messages == messages


def test_what_is_slower_is_told_beside_what_changes() -> None:
    part = retrial.part_of(Kind.TASK, [], TASK)
    assert part is not None
    assert retrial.retry(part, says(deny=[]), is_slower=True).effects == (Effect.SLOWER,)
    assert retrial.retry(part, says(deny=["x"]), is_slower=True).effects == (
        Effect.NEWLY_DENIED, Effect.SLOWER,
    )  # fmt: skip


def test_access_policies_see_a_tasks_input_without_its_command() -> None:
    recorded = json.dumps({"request": {"command": "ls", "remote_ip": "::1"}, "stack": {"id": "ü"}})
    assert json.loads(retrial.input_for(Kind.ACCESS, recorded)) == {
        "request": {"remote_ip": "::1"}, "stack": {"id": "ü"},
    }  # fmt: skip
    assert retrial.input_for(Kind.TASK, recorded) is recorded
