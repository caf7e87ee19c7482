"""Asks policies in an OPA apart, to find the one that eats time or memory: what it does there, it does to nobody else.

Processor time counts, not the clock: that a machine is slow, or that somebody ends an OPA, is no policy's fault.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

import structlog

from control_plane.policies import bundle, questions
from control_plane.policies.causes import cause
from control_plane.policies.child import Child, ChildDiedError, Limits
from control_plane.policies.combine import Evaluation, PolicyRef
from control_plane.policies.connection import ConnectionLostError, QueryError
from control_plane.policies.errors import EvaluationFailed
from control_plane.policies.questions import NonsenseError, Question

log = structlog.get_logger(__name__)

# Apart from the one that serves, which may need more: a few policies alone have no use for as much.
DEFAULT_MEMORY_BYTES: Final = 1 << 30
_AT_ONCE: Final = 2
# An examination is given up after so many deadlines: the machine is too slow to tell. Its caller waits less.
_PATIENCE: Final = 40.0
_LOOK_S: Final = 0.02
# One that runs out of memory says so at length before it ends.
_LAST_WORDS_S: Final = 10.0
# How long one is watched that nobody waits for any more, and which share of a core it must use to be found at it still.
_AFTERMATH_S: Final = 0.3
_STILL_BUSY: Final = 0.3
# Nobody waits longer for a turn.
_LONGEST_WAIT_S: Final = 600.0
# Ends the process for good, whatever becomes of us.
_LONGEST_CPU_S: Final = 60

# What one suspect says; None where that was not found out.
Said: TypeAlias = Evaluation | EvaluationFailed | None


@dataclass(frozen=True)
class Overrun:
    """A policy that used more than it may, all by itself."""

    policy: PolicyRef
    cause: str
    # It goes on, although nobody waits for it: a built-in that OPA cannot interrupt.
    goes_on: bool = False
    # It was found by another examination, for which this one waited.
    is_known: bool = False

    @property
    def failure(self) -> EvaluationFailed:
        return EvaluationFailed(self.cause, policy_id=self.policy.id, policy_name=self.policy.name)


@dataclass(frozen=True)
class Report:
    """What came out, suspect by suspect, and who overran."""

    said: Sequence[Said]
    overruns: Sequence[Overrun]


class _End(enum.Enum):
    """How a round ended."""

    ANSWERED = enum.auto()
    OUT_OF_TIME = enum.auto()
    OUT_OF_MEMORY = enum.auto()
    # Nothing follows from it.
    VOID = enum.auto()


@dataclass(frozen=True)
class _Round:
    said: Sequence[Said]
    end: _End
    goes_on: bool = False


class Examiner:
    """`contents` gives what an OPA must hold to judge these policies; `author_line` as for `causes.cause`."""

    def __init__(
        self,
        opa: Path,
        contents: Callable[[frozenset[str]], bundle.Contents],
        *,
        deadline_s: float,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        author_line: Callable[[str, int], int],
    ) -> None:
        self._opa = opa
        self._contents = contents
        self._deadline_s = deadline_s
        # One core, so that its processor time is at most the time that its suspect was given.
        self._limits = Limits(memory_bytes, cores=1, cpu_s=_LONGEST_CPU_S)
        self._author_line = author_line
        self._turns = asyncio.Semaphore(_AT_ONCE)
        # By policy and revision: when it was found last.
        self._found: dict[tuple[str, int], tuple[float, Overrun]] = {}

    @property
    def is_busy(self) -> bool:
        return self._turns.locked()

    async def examine(self, suspects: Sequence[Question]) -> Report:
        """Each suspect is a question to one policy. Takes up to a deadline per policy that overruns."""
        began = time.monotonic()
        async with self._turns:
            if known := self._found_since(began, suspects):
                return Report([None] * len(suspects), known)
            return await self._examine(suspects)

    async def _examine(self, suspects: Sequence[Question]) -> Report:
        said: list[Said] = [None] * len(suspects)
        overruns: list[Overrun] = []
        give_up_at = time.monotonic() + _PATIENCE * self._deadline_s
        at_most = len(suspects)
        while left := [place for place, each in enumerate(said) if each is None][:at_most]:
            tried = await self._round([suspects[place] for place in left], give_up_at)
            for place, each in zip(left, tried.said, strict=True):
                said[place] = each
            match tried.end:
                case _End.ANSWERED:
                    continue
                case _End.VOID:
                    break
                case _End.OUT_OF_TIME | _End.OUT_OF_MEMORY:
                    open_still = [place for place in left if said[place] is None]
                    if len(open_still) == 1:
                        overrun = self._overrun(suspects[open_still[0]].policies[0], tried)
                        overruns.append(overrun)
                        _blame(overrun, suspects, said)
                    # Those that are left shared what there was: from now on each has all of it.
                    at_most = 1
        return Report(said, overruns)

    async def _round(self, suspects: Sequence[Question], give_up_at: float) -> _Round:
        void = _Round([None] * len(suspects), _End.VOID)
        left_s = give_up_at - time.monotonic()
        if left_s <= 0:
            return void
        contents = self._contents(frozenset(suspect.policies[0].id for suspect in suspects))
        try:
            child = await Child.start(self._opa, contents, limits=self._limits, deadline_s=left_s)
        except ChildDiedError as error:
            log.warning("policy.not_examined", cause=error.output)
            return void
        try:
            # Who cannot answer this, which is about no policy, says nothing about policies.
            questions.evaluations(await child.connection.ask([]), [], child.connection.instance)
            return await self._put(child, suspects)
        except (TimeoutError, ConnectionLostError, QueryError, NonsenseError) as error:
            log.warning("policy.not_examined", cause=str(error))
            return void
        finally:
            await child.stop()

    async def _put(self, child: Child, suspects: Sequence[Question]) -> _Round:
        asked = [asyncio.create_task(self._ask(child, suspect)) for suspect in suspects]
        try:
            end = await self._watch(child, asked)
            said = [_outcome(task) for task in asked]
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        goes_on = end is _End.OUT_OF_TIME and await _is_busy(child)
        return _Round(said, end, goes_on)

    async def _watch(self, child: Child, asked: Sequence[asyncio.Task[Said]]) -> _End:
        """Returns once all is answered, or it is clear why not."""
        waiting: set[asyncio.Task[Said]] = set(asked)
        before_s = child.cpu_s()
        while waiting:
            done, waiting = await asyncio.wait(waiting, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if any(isinstance(task.exception(), ConnectionLostError) for task in done):
                if await child.connection.is_starved(within_s=_LAST_WORDS_S):
                    return _End.OUT_OF_MEMORY
                log.warning("policy.not_examined", cause=f"its OPA died: {child.last_output[-200:]}")
                return _End.VOID
            if failures := [task.exception() for task in done if task.exception() is not None]:
                log.warning("policy.not_examined", cause=str(failures[0]))
                return _End.VOID
            if done:
                before_s = child.cpu_s()
            elif child.cpu_s() - before_s > self._deadline_s:
                return _End.OUT_OF_TIME
        return _End.ANSWERED

    async def _ask(self, child: Child, suspect: Question) -> Said:
        connection, policy = child.connection, suspect.policies[0]
        try:
            answer = await connection.ask([questions.body(suspect)])
            [[said]] = questions.evaluations(answer, [suspect], connection.instance)
        except QueryError as error:
            why = cause(error.report, self._author_line)
            return EvaluationFailed(why, policy_id=policy.id, policy_name=policy.name)
        except EvaluationFailed as failure:
            return failure
        return said

    def _overrun(self, policy: PolicyRef, tried: _Round) -> Overrun:
        if tried.end is _End.OUT_OF_TIME:
            overrun = Overrun(policy, f"it takes more than {self._deadline_s:g} s", tried.goes_on)
        else:
            overrun = Overrun(policy, f"it needs more than {self._limits.memory_bytes >> 20} MiB of memory")
        now = time.monotonic()
        self._found = {key: found for key, found in self._found.items() if now - found[0] < _LONGEST_WAIT_S}
        self._found[policy.id, policy.revision] = (now, overrun)
        return overrun

    def _found_since(self, began: float, suspects: Sequence[Question]) -> list[Overrun]:
        """Policies of these that were found while these waited for their turn."""
        policies = {(suspect.policies[0].id, suspect.policies[0].revision) for suspect in suspects}
        found = [self._found[key] for key in sorted(policies & self._found.keys())]
        return [replace(overrun, is_known=True) for at, overrun in found if at >= began]


def _blame(overrun: Overrun, suspects: Sequence[Question], said: list[Said]) -> None:
    """The same policy is not tried again with each other document."""
    for place, suspect in enumerate(suspects):
        if said[place] is None and suspect.policies[0].id == overrun.policy.id:
            said[place] = overrun.failure


def _outcome(task: asyncio.Task[Said]) -> Said:
    return task.result() if task.done() and task.exception() is None else None


async def _is_busy(child: Child) -> bool:
    """It works, although nobody asks it anything any more."""
    before_s = child.cpu_s()
    await asyncio.sleep(_AFTERMATH_S)
    return child.cpu_s() - before_s > _STILL_BUSY * _AFTERMATH_S
