"""Asks OPA what the attached policies say: one query per decision, and only a whole answer counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from control_plane.errors import DomainError
from control_plane.policies.causes import cause
from control_plane.policies.combine import Evaluation, PolicyRef, RuleValue
from control_plane.policies.connection import Connection, ConnectionLostError, QueryError
from control_plane.policies.errors import EvaluationFailed, OpaUnavailable, PoliciesChanged
from control_plane.policies.inputs import Document
from control_plane.policies.opa import Opa
from policies.workbench.kinds import Kind

_RETRY_PAUSE_S = 0.02
_MAX_QUERIES_AT_ONCE = 16
_PROBE_TIMEOUT_S = 0.5


@dataclass(frozen=True)
class Question:
    """What do these policies, all of one kind, say about this document?"""

    kind: Kind
    document: Document
    policies: Sequence[PolicyRef]


class Evaluator:
    """Evaluates within a deadline, through restarts of OPA where the time suffices.

    `change` gives an event that is set once the loaded policies have changed;
    `author_line` gives the author's line for a policy's id and a line of its loaded module.
    """

    def __init__(
        self,
        opa: Opa,
        *,
        deadline_s: float,
        change: Callable[[], asyncio.Event],
        author_line: Callable[[str, int], int],
    ) -> None:
        self._opa = opa
        self._deadline_s = deadline_s
        self._change = change
        self._author_line = author_line
        self._few_at_once = asyncio.Semaphore(_MAX_QUERIES_AT_ONCE)

    async def evaluate(self, questions: Sequence[Question]) -> list[list[Evaluation]]:
        """Each question's evaluations, one per policy, in order, each by just the revision asked for.

        A failure takes up to a second deadline, in which the policies are tried one by one to name it.

        Raises:
            EvaluationFailed: a policy errs or takes too long; it is named where it can be found.
            OpaUnavailable: OPA is away, does not answer in time or does not hold a policy in time.
            PoliciesChanged: a newer revision is loaded.
        """
        if not any(question.policies for question in questions):
            return [[] for _ in questions]
        failure: DomainError
        try:
            return await self._evaluate(questions)
        except QueryError as error:
            failure = await self._culprit(questions) or EvaluationFailed(
                cause(error.report, self._author_line)
            )
        except _LateError as error:
            failure = await self._slow_culprit(questions, error)
        raise failure

    async def evaluate_each(self, questions: Sequence[Question]) -> list[list[Evaluation] | EvaluationFailed]:
        """As `evaluate`, in one query too, but one question's failure leaves the others their answers."""
        try:
            return list(await self._evaluate(questions)) if questions else []
        except (QueryError, _LateError):
            return list(await asyncio.gather(*map(self._evaluate_or_failure, questions)))

    async def _evaluate_or_failure(self, question: Question) -> list[Evaluation] | EvaluationFailed:
        async with self._few_at_once:
            try:
                [evaluations] = await self.evaluate([question])
            except EvaluationFailed as failure:
                return failure
        return evaluations

    async def _evaluate(self, questions: Sequence[Question]) -> list[list[Evaluation]]:
        body = [_body(question) for question in questions]
        problem: Exception = OpaUnavailable("it is not running")
        lost: set[str] = set()
        try:
            async with asyncio.timeout(self._deadline_s):
                while True:
                    connection = await self._opa.connected()
                    change = self._change()
                    problem = _LateError(f"it takes more than {self._deadline_s:g} s", connection)
                    try:
                        answer = await connection.ask(body)
                        return _evaluations(answer, questions, connection.instance)
                    except (ConnectionLostError, _NonsenseError) as error:
                        problem = OpaUnavailable(str(error))
                        self._opa.suspect(connection)
                        lost.add(connection.instance)
                        if len(lost) > 1:
                            # One that dies over this very question is not sent it again and again.
                            raise problem from error
                        await asyncio.sleep(_RETRY_PAUSE_S)
                    except _NotLoadedError as error:
                        problem = OpaUnavailable(str(error))
                        await change.wait()
        except TimeoutError:
            raise problem from None

    async def _slow_culprit(self, questions: Sequence[Question], late: _LateError) -> DomainError:
        """Who took the time: a policy, or OPA itself, which then does not answer anything."""
        self._opa.suspect(late.connection)
        if not await _answers_at_all(late.connection):
            return OpaUnavailable(str(late))
        return await self._culprit(questions) or OpaUnavailable(str(late))

    async def _culprit(self, questions: Sequence[Question]) -> EvaluationFailed | None:
        """The first policy that fails alone, unless all of several are late: then none of them is to blame."""
        alone = [
            Question(question.kind, question.document, [policy])
            for question in questions
            for policy in question.policies
        ]
        causes = await asyncio.gather(*map(self._cause_alone, alone))
        failed = [
            (question.policies[0], found) for question, found in zip(alone, causes, strict=True) if found
        ]
        if not failed or (len(failed) == len(alone) > 1 and all(found.is_late for _, found in failed)):
            return None
        policy, first = failed[0]
        return EvaluationFailed(first.text, policy_id=policy.id, policy_name=policy.name)

    async def _cause_alone(self, question: Question) -> _Cause | None:
        try:
            await self._evaluate([question])
        except QueryError as error:
            return _Cause(cause(error.report, self._author_line))
        except _LateError as error:
            return _Cause(str(error), is_late=True)
        except (OpaUnavailable, PoliciesChanged):
            return None
        return None


@dataclass(frozen=True)
class _Cause:
    text: str
    is_late: bool = False


class _LateError(Exception):
    """OPA took the query and did not answer in time."""

    def __init__(self, message: str, connection: Connection) -> None:
        super().__init__(message)
        self.connection = connection


class _NotLoadedError(Exception):
    """OPA does not hold the revision that was asked for."""


class _NonsenseError(Exception):
    """What answered is not the OPA that was started, or it holds nothing."""


async def _answers_at_all(connection: Connection) -> bool:
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            return await connection.is_healthy()
    except (TimeoutError, ConnectionLostError):
        return False


def _body(question: Question) -> dict[str, Any]:
    return {
        "rules": sorted(question.kind.rules | question.kind.further_rules),
        "policies": [policy.id for policy in question.policies],
        "input": question.document,
    }


def _evaluations(answer: Any, questions: Sequence[Question], instance: str) -> list[list[Evaluation]]:
    if not isinstance(answer, dict) or answer.get("instance") != instance:
        raise _NonsenseError("what answers is not the OPA that holds the policies")
    verdicts = answer.get("verdicts")
    if not isinstance(verdicts, list) or len(verdicts) != len(questions):
        raise _NonsenseError("what answers leaves questions open")
    return [
        [_evaluation(verdict, question.kind, policy) for policy in question.policies]
        for question, verdict in zip(questions, verdicts, strict=True)
    ]


def _evaluation(verdicts: Any, kind: Kind, policy: PolicyRef) -> Evaluation:
    verdict = verdicts.get(policy.id) if isinstance(verdicts, dict) else None
    if verdict is None:
        raise _NotLoadedError(f"policy {policy.name!r} is not loaded")
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
            raise _NotLoadedError(problem)
    except (TypeError, KeyError, AttributeError) as error:
        raise _NonsenseError("what answers is no verdict") from error
    return Evaluation(policy, rules)
