"""What OPA is asked, and what its answer means. Pure; only a whole answer of the right OPA and revision counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from control_plane.policies.combine import Evaluation, PolicyRef, RuleValue
from control_plane.policies.errors import EvaluationFailed, PoliciesChanged
from control_plane.policies.inputs import Document
from policies.workbench.kinds import Kind


@dataclass(frozen=True)
class Question:
    """What do these policies, all of one kind, say about this document?"""

    kind: Kind
    document: Document
    policies: Sequence[PolicyRef]


class NotLoadedError(Exception):
    """OPA does not hold the revision that was asked for."""


class NonsenseError(Exception):
    """What answered is not the OPA that was started, or it holds nothing."""


def alone(questions: Sequence[Question]) -> list[Question]:
    """The same, of each policy by itself, in order."""
    return [
        Question(question.kind, question.document, [policy])
        for question in questions
        for policy in question.policies
    ]


def body(question: Question) -> dict[str, Any]:
    """As the dispatcher takes it."""
    return {
        "rules": sorted(question.kind.rules | question.kind.further_rules),
        "policies": [policy.id for policy in question.policies],
        "input": question.document,
    }


def evaluations(answer: Any, questions: Sequence[Question], instance: str) -> list[list[Evaluation]]:
    """Each question's evaluations, one per policy, in order.

    Raises:
        NonsenseError, NotLoadedError: it is no answer.
        EvaluationFailed: a policy is of another kind.
        PoliciesChanged: a newer revision is loaded.
    """
    if not isinstance(answer, dict) or answer.get("instance") != instance:
        raise NonsenseError("what answers is not the OPA that holds the policies")
    verdicts = answer.get("verdicts")
    if not isinstance(verdicts, list) or len(verdicts) != len(questions):
        raise NonsenseError("what answers leaves questions open")
    return [
        [_evaluation(verdict, question.kind, policy) for policy in question.policies]
        for question, verdict in zip(questions, verdicts, strict=True)
    ]


def _evaluation(verdicts: Any, kind: Kind, policy: PolicyRef) -> Evaluation:
    verdict = verdicts.get(policy.id) if isinstance(verdicts, dict) else None
    if verdict is None:
        raise NotLoadedError(f"policy {policy.name!r} is not loaded")
    try:
        if verdict["kind"] != kind.value:
            raise EvaluationFailed(
                f"it is no {kind.value} policy", policy_id=policy.id, policy_name=policy.name
            )
        revision = verdict["revision"]
        rules = {name: RuleValue(rule["type"], rule["value"]) for name, rule in verdict["rules"].items()}
        if revision > policy.revision:
            raise PoliciesChanged(policy.id)
        if revision < policy.revision:
            problem = f"policy {policy.name!r} is loaded at revision {revision}, not yet {policy.revision}"
            raise NotLoadedError(problem)
    except (TypeError, KeyError, AttributeError) as error:
        raise NonsenseError("what answers is no verdict") from error
    return Evaluation(policy, rules)
