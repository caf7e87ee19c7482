"""From what each attached policy says to one decision, per kind. Pure; the unexpected fails: a no."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from control_plane.policies.errors import EvaluationFailed
from policies.workbench.kinds import SAMPLE_RULE


@dataclass(frozen=True)
class PolicyRef:
    """A policy at one revision, as the decision that it took part in records it."""

    id: str
    name: str
    revision: int


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
    said = {rule for evaluation in evaluations for rule in _true_rules(evaluation)}
    if "deny" in said:
        return AccessLevel.NONE
    if "write" in said:
        return AccessLevel.READ if "deny_write" in said else AccessLevel.WRITE
    return AccessLevel.READ if "read" in said else AccessLevel.NONE


def _true_rules(evaluation: Evaluation) -> set[str]:
    true_rules = set()
    for rule in ("deny", "deny_write", "write", "read"):
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
