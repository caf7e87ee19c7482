"""Policies in shadow mode: asked beside the ones that count, recorded with the decision, and never part of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog

from control_plane.errors import DomainError
from control_plane.policies import combine
from control_plane.policies.combine import Evaluation, PolicyRef
from control_plane.policies.decisions import said_by
from control_plane.policies.engine import PolicyEngine
from control_plane.policies.errors import EvaluationFailed
from control_plane.policies.inputs import Document
from control_plane.policies.questions import Question
from policies.workbench.kinds import Kind

# How long a decision that is made waits for what policies in shadow mode say of it.
_GRACE_S: Final = 0.25

log = structlog.get_logger(__name__)


class ShadowAsk:
    """One asking, begun before the policies that count are asked and ended after them."""

    def __init__(self, engine: PolicyEngine, questions: Sequence[Question]) -> None:
        self._alone = [
            Question(question.kind, question.document, [policy])
            for question in questions
            for policy in question.policies
        ]
        self._asking: asyncio.Task[list[list[Evaluation] | EvaluationFailed]] | None = None
        if self._alone:
            self._asking = asyncio.create_task(engine.ask_each(self._alone), name="shadow-policies")

    async def said(
        self, counted: Mapping[Kind, Sequence[Evaluation]] | None, *, was: str = ""
    ) -> list[dict[str, Any]]:
        """For the stored decision. `counted` is what the policies that count said; None where they failed.

        `was` is what the decision came to, where that is not what these say together.
        """
        if self._asking is None:
            return []
        try:
            async with asyncio.timeout(_GRACE_S):
                answers = await self._asking
        except TimeoutError:
            return [_failed(each, f"it takes more than {_GRACE_S:g} s longer") for each in self._alone]
        except DomainError as error:
            return [_failed(each, error.message) for each in self._alone]
        return [_entry(*pair, counted, was) for pair in zip(self._alone, answers, strict=True)]

    def drop(self) -> None:
        """Nobody wants to know any more."""
        if self._asking is not None:
            self._asking.cancel()


def questions(kind: Kind, document: Document, policies: Sequence[PolicyRef]) -> list[Question]:
    return [Question(kind, document, policies)] if policies else []


def _entry(
    question: Question,
    answer: Sequence[Evaluation] | EvaluationFailed,
    counted: Mapping[Kind, Sequence[Evaluation]] | None,
    was: str,
) -> dict[str, Any]:
    if isinstance(answer, EvaluationFailed):
        return _failed(question, answer.cause)
    [entry] = said_by(question.kind, answer)
    if counted is None:
        return entry
    beside = counted.get(question.kind, ())
    try:
        before = was or combine.outcome(question.kind, beside)
        return {**entry, "was": before, "would_be": combine.outcome(question.kind, [*beside, *answer])}
    except EvaluationFailed as error:
        return {**entry, "failure": error.cause}


def _failed(question: Question, cause: str) -> dict[str, Any]:
    [policy] = question.policies
    return {
        "kind": question.kind.value,
        "id": policy.id,
        "name": policy.name,
        "revision": policy.revision,
        "failure": cause,
    }
