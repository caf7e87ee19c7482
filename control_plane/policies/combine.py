"""From what each attached policy says to one decision, per kind. Pure; the unexpected fails: a no."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from control_plane.policies.errors import EvaluationFailed
from policies.workbench.kinds import SAMPLE_RULE, SPACE_ADMIN_RULE, SPACE_RULES, TEAM_RULE, Kind


@dataclass(frozen=True)
class PolicyRef:
    """A policy at one revision, as the decision that it took part in records it."""

    id: str
    name: str
    revision: int
    # How often in a row it used more time or memory than it may; see `quarantine`.
    overruns: int = 0
    # Why it is not asked any more; empty where it is.
    quarantine: str = ""


@dataclass(frozen=True)
class RuleValue:
    """What a rule came to; `type` is Rego's type_name, since JSON does not tell a set from an array."""

    type: str
    value: Any


@dataclass(frozen=True)
class Evaluation:
    """What one policy says: the values of those of its kind's rules that are defined."""

    policy: PolicyRef
    rules: Mapping[str, RuleValue]

    @property
    def is_sample(self) -> bool:
        """The author asks that this input be kept."""
        sample = self.rules.get(SAMPLE_RULE)
        return sample is not None and sample.value is True


@dataclass(frozen=True, order=True)
class Denial:
    """One message of one policy."""

    message: str
    policy_id: str
    policy_name: str


class AccessLevel(enum.IntEnum):
    """Ordered: who may write may read."""

    NONE = 0
    READ = 1
    WRITE = 2


# The one space that there is.
ROOT_SPACE = "root"


class Approval(enum.StrEnum):
    """What approval policies say together."""

    APPROVED = "approved"
    UNDECIDED = "undecided"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Grant:
    """What login policies say together: who may come in, and as what. `teams` is None where none says so."""

    is_allowed: bool
    admin: bool = False
    teams: tuple[str, ...] | None = None


def denials(evaluations: Sequence[Evaluation]) -> tuple[Denial, ...]:
    """All messages of all task policies, sorted; none means that the task is allowed.

    Raises:
        EvaluationFailed: `deny` of a policy is undefined or no set of strings.
    """
    found = []
    for evaluation in evaluations:
        policy = evaluation.policy
        deny = evaluation.rules.get("deny")
        if deny is None:
            raise _failed(policy, "`deny` is undefined; it must be a set of strings")
        if deny.type != "set" or not isinstance(deny.value, list):
            raise _failed(policy, f"`deny` is of type {deny.type}; it must be a set of strings")
        for message in deny.value:
            if not isinstance(message, str):
                raise _failed(policy, f"`deny` contains {message!r}; it must be a set of strings")
            found.append(Denial(message, policy.id, policy.name))
    return tuple(sorted(found))


def access_level(evaluations: Sequence[Evaluation]) -> AccessLevel:
    """Any `deny` hides, any `deny_write` takes writing away, then any `write`, any `read`; by default none.

    Raises:
        EvaluationFailed: a rule is neither undefined nor a boolean.
    """
    said = _said(evaluations, ("deny", "deny_write", "write", "read"))
    if "deny" in said:
        return AccessLevel.NONE
    if "write" in said:
        return AccessLevel.READ if "deny_write" in said else AccessLevel.WRITE
    return AccessLevel.READ if "read" in said else AccessLevel.NONE


def approval(evaluations: Sequence[Evaluation]) -> Approval:
    """Any `reject` rejects; approved when every policy approves; else undecided. Without a policy: approved.

    Raises:
        EvaluationFailed: a rule is neither undefined nor a boolean.
    """
    verdicts = [_true_rules(evaluation, ("approve", "reject")) for evaluation in evaluations]
    if any("reject" in said for said in verdicts):
        return Approval.REJECTED
    return Approval.APPROVED if all("approve" in said for said in verdicts) else Approval.UNDECIDED


def undecided(evaluations: Sequence[Evaluation]) -> list[PolicyRef]:
    """The policies whose approval is missing."""
    return [each.policy for each in evaluations if "approve" not in _true_rules(each, ("approve",))]


def rejecting(evaluations: Sequence[Evaluation]) -> list[PolicyRef]:
    """The policies that reject."""
    return [each.policy for each in evaluations if "reject" in _true_rules(each, ("reject",))]


def login(evaluations: Sequence[Evaluation]) -> Grant:
    """Any `deny` refuses; `admin` lets in as an admin, unless any `deny_admin`; `allow` lets in; else refused.

    `space_admin` of the space root is as `admin`, `space_write` and `space_read` of it as `allow`. Where policies name
    any `team`, their sets together are the teams.

    Raises:
        EvaluationFailed: a rule is neither undefined nor a boolean; `team` or a rule about spaces no set of strings.
    """
    said = _said(evaluations, ("deny", "deny_admin", "admin", "allow"))
    for rule in SPACE_RULES:
        if ROOT_SPACE in _strings(evaluations, rule):
            said.add("admin" if rule == SPACE_ADMIN_RULE else "allow")
    teams = _strings(evaluations, TEAM_RULE)
    if "deny" in said:
        return Grant(is_allowed=False)
    is_admin = "admin" in said and "deny_admin" not in said
    return Grant(is_admin or "allow" in said, admin=is_admin, teams=tuple(sorted(teams)) or None)


def outcome(kind: Kind, evaluations: Sequence[Evaluation]) -> str:
    """In one word, what policies of this kind say together.

    Raises:
        EvaluationFailed: as that kind's own combination.
    """
    match kind:
        case Kind.TASK:
            return "denied" if denials(evaluations) else "allowed"
        case Kind.ACCESS:
            return access_level(evaluations).name.lower()
        case Kind.APPROVAL:
            return approval(evaluations).value
        case Kind.LOGIN:
            grant = login(evaluations)
            return ("admin" if grant.admin else "allowed") if grant.is_allowed else "denied"


def _strings(evaluations: Sequence[Evaluation], rule: str) -> set[str]:
    """All that these policies' sets of strings hold."""
    found: set[str] = set()
    for evaluation in evaluations:
        strings = evaluation.rules.get(rule)
        if strings is None:
            continue
        if strings.type != "set" or not all(isinstance(each, str) for each in strings.value):
            raise _failed(evaluation.policy, f"`{rule}` must be a set of strings")
        found.update(strings.value)
    return found


def _said(evaluations: Sequence[Evaluation], rules: Sequence[str]) -> set[str]:
    return {rule for evaluation in evaluations for rule in _true_rules(evaluation, rules)}


def _true_rules(evaluation: Evaluation, rules: Sequence[str]) -> set[str]:
    true_rules = set()
    for rule in rules:
        value = evaluation.rules.get(rule)
        if value is None:
            continue
        if value.type != "boolean" or not isinstance(value.value, bool):
            raise _failed(evaluation.policy, f"`{rule}` is of type {value.type}; it must be a boolean")
        if value.value:
            true_rules.add(rule)
    return true_rules


def _failed(policy: PolicyRef, cause: str) -> EvaluationFailed:
    return EvaluationFailed(cause, policy_id=policy.id, policy_name=policy.name)
