"""Asks OPA what the attached policies say: one query per decision, and only a whole answer counts."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import structlog

from control_plane.errors import DomainError
from control_plane.policies import questions as asking
from control_plane.policies.causes import cause
from control_plane.policies.combine import Evaluation, PolicyRef
from control_plane.policies.connection import Connection, ConnectionLostError, QueryError
from control_plane.policies.errors import EvaluationFailed, OpaUnavailable, PoliciesChanged
from control_plane.policies.examination import Examiner, Report
from control_plane.policies.opa import Opa
from control_plane.policies.questions import NonsenseError, NotLoadedError, Question

_RETRY_PAUSE_S = 0.02
_MAX_QUERIES_AT_ONCE = 16
_PROBE_TIMEOUT_S = 0.5
# What is still asked after this time when its caller goes away is looked into; most answers take a millisecond.
_SUSPICIOUS_S = 0.2
# How many deadlines a decision waits to be told which policy is to blame.
_EXAMINATION_DEADLINES = 3

Answer: TypeAlias = list[Evaluation]
_T = TypeVar("_T")

log = structlog.get_logger(__name__)


class Ledger(Protocol):
    """Remembers for all replicas which policies use more time or memory than they may."""

    async def overran(self, policy: PolicyRef, cause: str) -> bool:
        """It did, alone. True where it is in quarantine from now on."""

    async def passed(self, policy_ids: Sequence[str]) -> None:
        """These, which overran last time, have answered as they should."""


class Evaluator:
    """Evaluates within a deadline, through restarts of OPA where the time suffices.

    `change` gives an event that is set once the loaded policies have changed;
    `author_line` gives the author's line for a policy's id and a line of its loaded module.
    """

    def __init__(
        self,
        opa: Opa,
        examiner: Examiner,
        *,
        deadline_s: float,
        change: Callable[[], asyncio.Event],
        author_line: Callable[[str, int], int],
    ) -> None:
        self._opa = opa
        self._examiner = examiner
        self._deadline_s = deadline_s
        self._change = change
        self._author_line = author_line
        self._few_at_once = asyncio.Semaphore(_MAX_QUERIES_AT_ONCE)
        self._owned: set[asyncio.Task[Any]] = set()
        self._is_stopped = False
        # Policies whose pass is being noted.
        self._passing: set[str] = set()
        self.ledger: Ledger | None = None

    async def stop(self) -> None:
        """Ends what goes on without a caller."""
        self._is_stopped = True
        tasks = list(self._owned)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def evaluate(self, questions: Sequence[Question]) -> list[Answer]:
        """Each question's evaluations, one per policy, in order, each by just the revision asked for.

        A policy in quarantine fails at once. Any other failure takes up to a second deadline, in which the policies
        are tried one by one to name it; on a slow machine more.

        Raises:
            EvaluationFailed: a policy errs, takes too long or needs too much memory; it is named where it can be found.
            OpaUnavailable: OPA is away, does not answer in time or does not hold a policy in time.
            PoliciesChanged: a newer revision is loaded.
        """
        if failure := _quarantined(questions):
            raise failure
        return [_or_raise(answer) for answer in await self._answers(questions)]

    async def evaluate_each(self, questions: Sequence[Question]) -> list[Answer | EvaluationFailed]:
        """As `evaluate`, in one query too, but one question's failure leaves the others their answers."""
        refused = [_quarantined([question]) for question in questions]
        asked = [question for question, failure in zip(questions, refused, strict=True) if failure is None]
        answers: Sequence[Answer | EvaluationFailed]
        try:
            answers = await self._noted(asked) if asked else []
        except (QueryError, _LateError):
            answers = await asyncio.gather(*map(self._evaluate_or_failure, asked))
        except _DeadlyError as error:
            answers = _by_question(asked, await self._examined(asked), error)
        answered = iter(answers)
        return [next(answered) if failure is None else failure for failure in refused]

    async def _answers(self, questions: Sequence[Question]) -> Sequence[Answer | EvaluationFailed]:
        if not any(question.policies for question in questions):
            return [[] for _ in questions]
        try:
            return await self._noted(questions)
        except QueryError as error:
            raise await self._culprit(questions) or EvaluationFailed(
                cause(error.report, self._author_line)
            ) from error
        except _LateError as error:
            raise await self._slow_culprit(questions, error) from error
        except _DeadlyError as error:
            return _by_question(questions, await self._examined(questions), error)

    async def _evaluate_or_failure(self, question: Question) -> Answer | EvaluationFailed:
        async with self._few_at_once:
            try:
                [evaluations] = await self.evaluate([question])
            except EvaluationFailed as failure:
                return failure
        return evaluations

    async def _noted(self, questions: Sequence[Question]) -> list[Answer]:
        """As `_evaluate`. Good conduct is noted, and so is a caller who goes away and leaves OPA at work."""
        began = time.monotonic()
        try:
            answers = await self._evaluate(questions)
        except asyncio.CancelledError:
            is_suspicious = time.monotonic() - began > _SUSPICIOUS_S
            if is_suspicious and not self._examiner.is_busy and not self._is_stopped:
                self._own(self._examine(asking.alone(questions)))
            raise
        passed = {
            policy.id for question in questions for policy in question.policies if policy.overruns
        } - self._passing
        if passed and self.ledger is not None:
            self._own(self._pass(self.ledger, passed))
        return answers

    async def _evaluate(self, questions: Sequence[Question]) -> list[Answer]:
        body = [asking.body(question) for question in questions]
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
                        return asking.evaluations(answer, questions, connection.instance)
                    except (ConnectionLostError, NonsenseError) as error:
                        problem = OpaUnavailable(str(error))
                        self._opa.suspect(connection)
                        lost.add(connection.instance)
                        if isinstance(error, ConnectionLostError) and await _is_deadly(connection, lost):
                            # One that dies over this very question is not sent it again and again.
                            raise _DeadlyError(str(error)) from error
                        if len(lost) > 1:
                            raise problem from error
                        await asyncio.sleep(_RETRY_PAUSE_S)
                    except NotLoadedError as error:
                        problem = OpaUnavailable(str(error))
                        await change.wait()
        except TimeoutError:
            raise problem from None

    async def _slow_culprit(self, questions: Sequence[Question], late: _LateError) -> DomainError:
        """Who took the time: a policy, or OPA itself, which then does not answer anything.

        Nor does it where a policy is at something that it cannot interrupt: so a few are examined then, too.
        """
        self._opa.suspect(late.connection)
        if not await _answers_at_all(late.connection) and self._examiner.is_busy:
            return OpaUnavailable(str(late))
        report = await self._examined(questions)
        failures = (each for each in report.said if isinstance(each, EvaluationFailed))
        return next(failures, None) or OpaUnavailable(str(late))

    async def _culprit(self, questions: Sequence[Question]) -> EvaluationFailed | None:
        """The first policy that fails alone."""
        alone = asking.alone(questions)
        causes = await asyncio.gather(*map(self._cause_alone, alone))
        for question, found in zip(alone, causes, strict=True):
            if found is not None:
                [policy] = question.policies
                return EvaluationFailed(found, policy_id=policy.id, policy_name=policy.name)
        return None

    async def _cause_alone(self, question: Question) -> str | None:
        try:
            await self._evaluate([question])
        except QueryError as error:
            return cause(error.report, self._author_line)
        except (_LateError, _DeadlyError, OpaUnavailable, PoliciesChanged):
            return None
        return None

    async def _examined(self, questions: Sequence[Question]) -> Report:
        """Goes on to its end also where nobody waits for it any more: or impatient callers, and slow machines, would hide
        a policy. Who waits is told nothing after `_EXAMINATION_DEADLINES` deadlines."""
        suspects = asking.alone(questions)
        examining = self._own(self._examine(suspects))
        try:
            async with asyncio.timeout(_EXAMINATION_DEADLINES * self._deadline_s):
                return await asyncio.shield(examining)
        except TimeoutError:
            return Report([None] * len(suspects), [])

    async def _examine(self, suspects: Sequence[Question]) -> Report:
        report = await self._examiner.examine(suspects)
        for overrun in report.overruns:
            policy = overrun.policy
            if overrun.is_known:
                continue
            log.warning("policy.overran", policy_id=policy.id, revision=policy.revision, cause=overrun.cause)
            is_quarantined = (
                await self.ledger.overran(policy, overrun.cause) if self.ledger is not None else False
            )
            if overrun.goes_on or is_quarantined:
                # What cannot be interrupted ends with its process.
                self._own(self._opa.renew())
        return report

    async def _pass(self, ledger: Ledger, policy_ids: set[str]) -> None:
        self._passing |= policy_ids
        try:
            await ledger.passed(sorted(policy_ids))
        finally:
            self._passing -= policy_ids

    def _own(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._owned.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._owned.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("policy.examination_failed", cause=str(error), exc_info=error)


class _LateError(Exception):
    """OPA took the query and did not answer in time."""

    def __init__(self, message: str, connection: Connection) -> None:
        super().__init__(message)
        self.connection = connection


class _DeadlyError(Exception):
    """OPA died over the query, or over another one beside it."""


async def _is_deadly(connection: Connection, lost: set[str]) -> bool:
    return len(lost) > 1 or await connection.is_starved()


async def _answers_at_all(connection: Connection) -> bool:
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            return await connection.is_healthy()
    except (TimeoutError, ConnectionLostError):
        return False


def _quarantined(questions: Sequence[Question]) -> EvaluationFailed | None:
    for question in questions:
        for policy in question.policies:
            if policy.quarantine:
                return EvaluationFailed(policy.quarantine, policy_id=policy.id, policy_name=policy.name)
    return None


def _by_question(
    questions: Sequence[Question], report: Report, died: _DeadlyError
) -> list[Answer | EvaluationFailed]:
    """What the examination of each question's policies, one by one, says together."""
    answers: list[Answer | EvaluationFailed] = []
    said = iter(report.said)
    for question in questions:
        answer: Answer = []
        failure: EvaluationFailed | None = None
        for each in itertools.islice(said, len(question.policies)):
            if each is None:
                raise OpaUnavailable(str(died))
            if isinstance(each, EvaluationFailed):
                failure = failure or each
            else:
                answer.append(each)
        answers.append(failure or answer)
    return answers


def _or_raise(answer: Answer | EvaluationFailed) -> Answer:
    if isinstance(answer, EvaluationFailed):
        raise answer
    return answer
