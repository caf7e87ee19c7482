"""The combination table, walked: every set of rules that one or two policies may say."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from control_plane.policies.combine import (
    AccessLevel,
    Approval,
    Evaluation,
    Grant,
    PolicyRef,
    RuleValue,
    access_level,
    approval,
    denials,
    login,
    rejecting,
    undecided,
)
from control_plane.policies.errors import EvaluationFailed

ACCESS_RULES = ("read", "write", "deny", "deny_write")


def evaluation(policy_id: str = "p", /, **rules: tuple[str, Any]) -> Evaluation:
    values = {name: RuleValue(kind, value) for name, (kind, value) in rules.items()}
    return Evaluation(PolicyRef(policy_id, f"Policy {policy_id}", 1), values)


def access(policy_id: str = "p", /, **rules: bool) -> Evaluation:
    return evaluation(policy_id, **{name: ("boolean", value) for name, value in rules.items()})


def expected_level(said: set[str]) -> AccessLevel:
    """The table of the contract, written out once more."""
    if "deny" in said:
        return AccessLevel.NONE
    if "deny_write" in said:
        return AccessLevel.READ if said & {"read", "write"} else AccessLevel.NONE
    if "write" in said:
        return AccessLevel.WRITE
    return AccessLevel.READ if "read" in said else AccessLevel.NONE


@pytest.mark.parametrize("values", list(itertools.product([True, False, None], repeat=4)))
def test_one_access_policy_gives_the_level_of_the_table(values: tuple[bool | None, ...]) -> None:
    rules: Mapping[str, bool | None] = dict(zip(ACCESS_RULES, values, strict=True))
    defined = {name: value for name, value in rules.items() if value is not None}

    level = access_level([access(**defined)])

    assert level is expected_level({name for name, value in defined.items() if value})


@pytest.mark.parametrize("rules", list(itertools.product(ACCESS_RULES, repeat=2)))
def test_two_access_policies_combine_as_one_that_says_both(rules: tuple[str, str]) -> None:
    first, second = rules

    level = access_level([access("a", **{first: True}), access("b", **{second: True})])

    assert level is expected_level({first, second})


def test_no_access_policy_is_no_access() -> None:
    assert access_level([]) is AccessLevel.NONE


@pytest.mark.parametrize(
    "wrong", [("string", "yes"), ("number", 1), ("set", []), ("null", None), ("boolean", 1), ("object", {})]
)
@pytest.mark.parametrize("rule", ACCESS_RULES)
def test_an_access_rule_that_is_no_boolean_is_a_failure_of_its_policy(
    rule: str, wrong: tuple[str, Any]
) -> None:
    with pytest.raises(EvaluationFailed, match="must be a boolean") as caught:
        access_level([access("good", write=True), evaluation("bad", **{rule: wrong})])

    assert caught.value.policy_id == "bad"


def approval_of(approve: bool | None, reject: bool | None) -> Evaluation:
    said = {"approve": approve, "reject": reject}
    return access("p", **{name: value for name, value in said.items() if value is not None})


APPROVALS = list(itertools.product([True, False, None], repeat=2))


@pytest.mark.parametrize(("first", "second"), list(itertools.product(APPROVALS, repeat=2)))
def test_any_rejection_rejects_and_all_have_to_approve(
    first: tuple[bool | None, bool | None], second: tuple[bool | None, bool | None]
) -> None:
    said = [approval_of(*first), approval_of(*second)]

    if first[1] or second[1]:
        expected = Approval.REJECTED
    else:
        expected = Approval.APPROVED if first[0] and second[0] else Approval.UNDECIDED
    assert approval(said) is expected


def test_without_an_approval_policy_a_run_is_approved() -> None:
    assert approval([]) is Approval.APPROVED


def test_the_policies_whose_approval_is_missing_and_that_reject_are_named() -> None:
    said = [access("yes", approve=True), access("open"), access("no", reject=True)]

    assert [policy.id for policy in undecided(said)] == ["open", "no"]
    assert [policy.id for policy in rejecting(said)] == ["no"]


@pytest.mark.parametrize("rule", ["approve", "reject"])
def test_an_approval_rule_that_is_no_boolean_is_a_failure(rule: str) -> None:
    with pytest.raises(EvaluationFailed, match="must be a boolean"):
        approval([access("fine", approve=True), evaluation("bad", **{rule: ("string", "yes")})])


LOGIN_RULES = ("allow", "admin", "deny", "deny_admin")


def expected_grant(said: set[str]) -> Grant:
    """The contract's sentence, written out once more."""
    if "deny" in said:
        return Grant(is_allowed=False)
    if "admin" in said and "deny_admin" not in said:
        return Grant(is_allowed=True, admin=True)
    return Grant(is_allowed="allow" in said)


@pytest.mark.parametrize("values", list(itertools.product([True, False], repeat=4)))
def test_login_policies_grant_as_the_table_says(values: tuple[bool, ...]) -> None:
    rules = dict(zip(LOGIN_RULES, values, strict=True))
    split = [access(name, **{name: value}) for name, value in rules.items()]

    expected = expected_grant({name for name, value in rules.items() if value})
    assert login([access("one", **rules)]) == login(split) == expected


def test_no_login_rule_that_matches_refuses() -> None:
    assert login([access("p")]) == Grant(is_allowed=False)


def test_the_teams_of_all_login_policies_that_give_some_are_those_of_the_session() -> None:
    said = [
        evaluation("a", allow=("boolean", True), team=("set", ["ops", "web"])),
        evaluation("b", team=("set", ["web", "dev"])),
        access("c"),
    ]
    assert login(said).teams == ("dev", "ops", "web")
    assert login([access("c", allow=True)]).teams is None
    assert login([evaluation(allow=("boolean", True), team=("set", []))]).teams is None


@pytest.mark.parametrize(
    ("rule", "spaces", "expected"),
    [
        ("space_admin", ["root"], Grant(is_allowed=True, admin=True)),
        ("space_write", ["other", "root"], Grant(is_allowed=True)),
        ("space_read", ["root"], Grant(is_allowed=True)),
        ("space_admin", ["other"], Grant(is_allowed=False)),
        ("space_read", [], Grant(is_allowed=False)),
    ],
)
def test_a_role_in_the_one_space_lets_in(rule: str, spaces: list[str], expected: Grant) -> None:
    assert login([evaluation(**{rule: ("set", spaces)})]) == expected


@pytest.mark.parametrize("wrong", [("array", ["a"]), ("set", [1]), ("string", "a")])
def test_teams_that_are_no_set_of_strings_are_a_failure(wrong: tuple[str, Any]) -> None:
    with pytest.raises(EvaluationFailed, match="`team` must be a set of strings"):
        login([evaluation(allow=("boolean", True), team=wrong)])


def test_all_messages_of_all_task_policies_are_returned_sorted() -> None:
    found = denials(
        [
            evaluation("a", deny=("set", ["z", "m"])),
            evaluation("b", deny=("set", ["a"])),
            evaluation("c", deny=("set", [])),
        ]
    )

    assert [(denial.message, denial.policy_id) for denial in found] == [("a", "b"), ("m", "a"), ("z", "a")]


def test_no_task_policy_denies_nothing() -> None:
    assert denials([]) == ()


@pytest.mark.parametrize(
    "wrong",
    [
        ("array", ["no"]),
        ("object", {"a": 1}),
        ("boolean", False),
        ("number", 0),
        ("string", ""),
        ("null", None),
    ],
)
def test_a_deny_that_is_no_set_is_a_failure_of_its_policy(wrong: tuple[str, Any]) -> None:
    with pytest.raises(EvaluationFailed, match="must be a set of strings") as caught:
        denials([evaluation("good", deny=("set", [])), evaluation("bad", deny=wrong)])

    assert caught.value.policy_id == "bad"


@pytest.mark.parametrize("element", [1, None, True, {"m": 1}, ["no"]])
def test_a_deny_that_contains_no_strings_is_a_failure(element: Any) -> None:
    with pytest.raises(EvaluationFailed, match="must be a set of strings"):
        denials([evaluation(deny=("set", ["fine", element]))])


def test_an_undefined_deny_is_a_failure_not_an_allowance() -> None:
    with pytest.raises(EvaluationFailed, match="`deny` is undefined"):
        denials([evaluation()])


@pytest.mark.parametrize(
    ("sample", "expected"), [(("boolean", True), True), (("boolean", False), False), (("number", 1), False)]
)
def test_only_a_true_sample_asks_to_keep_the_input(sample: tuple[str, Any], expected: bool) -> None:
    assert evaluation(sample=sample).is_sample is expected
