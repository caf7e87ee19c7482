"""What the engine decided, with all that a decision's record keeps: inputs, policies with revisions, results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from control_plane.policies.combine import AccessLevel, Denial, Evaluation, PolicyRef
from control_plane.policies.errors import EvaluationFailed
from control_plane.policies.inputs import Document
from policies.workbench.kinds import Kind


@dataclass(frozen=True)
class AccessDecision:
    """What the caller may do with a stack.

    An admin is not judged, so there are no evaluations. `failure` is set where a policy among many stacks'
    could not be evaluated: then the level is NONE.
    """

    level: AccessLevel
    document: Document
    evaluations: Sequence[Evaluation] = ()
    failure: EvaluationFailed | None = None

    def record(self) -> dict[str, Any]:
        """For the stored decision, as JSON."""
        return {
            "level": self.level.name.lower(),
            "input": self.document,
            "policies": said_by(Kind.ACCESS, self.evaluations),
        }


@dataclass(frozen=True)
class TaskDecision:
    """May the caller run this command on this stack? Without write access the task policies do not count."""

    access: AccessDecision
    document: Document
    denials: Sequence[Denial] = ()
    evaluations: Sequence[Evaluation] = ()

    @property
    def is_allowed(self) -> bool:
        return self.access.level is AccessLevel.WRITE and not self.denials

    @property
    def messages(self) -> list[str]:
        """Of all policies that deny, sorted, each once."""
        return sorted({denial.message for denial in self.denials})

    @property
    def denied_by(self) -> list[str]:
        """The names of the policies whose messages these are, sorted, each once."""
        return sorted({denial.policy_name for denial in self.denials})

    @property
    def is_sample(self) -> bool:
        """An author asks that this input be kept."""
        return any(evaluation.is_sample for evaluation in self.evaluations)

    def record(self) -> dict[str, Any]:
        """For the stored decision, as JSON."""
        return {
            "allowed": self.is_allowed,
            "messages": self.messages,
            "access": self.access.level.name.lower(),
            "input": self.document,
            "policies": [
                *said_by(Kind.ACCESS, self.access.evaluations),
                *said_by(Kind.TASK, self.evaluations),
            ],
        }


def said_by(kind: Kind, evaluations: Iterable[Evaluation]) -> list[dict[str, Any]]:
    """Each policy with its revision and what its rules came to, for the stored decision."""
    return [
        {
            "kind": kind.value,
            "id": evaluation.policy.id,
            "name": evaluation.policy.name,
            "revision": evaluation.policy.revision,
            "results": {name: rule.value for name, rule in sorted(evaluation.rules.items())},
        }
        for evaluation in evaluations
    ]


def asked_of(kind: Kind, policies: Iterable[PolicyRef]) -> list[dict[str, Any]]:
    """Policies that could not be evaluated together, for the stored decision."""
    return [
        {"kind": kind.value, "id": policy.id, "name": policy.name, "revision": policy.revision}
        for policy in policies
    ]
