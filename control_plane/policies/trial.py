"""A text that is not stored, evaluated on many inputs by an OPA of its own: nobody's decision waits for it.

One query has many inputs. Where it fails, or takes long, it is asked in parts, until it is known which input does that:
no input hides another's answer. What goes over its time or memory again and again is given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from control_plane.policies import bundle
from control_plane.policies.causes import cause
from control_plane.policies.child import Child, ChildDiedError, Limits
from control_plane.policies.combine import Evaluation, PolicyRef, RuleValue
from control_plane.policies.connection import ConnectionLostError, QueryError
from control_plane.policies.errors import EvaluationFailed, OpaUnavailable
from control_plane.policies.retrial import Said
from policies.workbench import rewriting
from policies.workbench.compiler import CompiledPolicy

# More than this for one input is slow: a decision takes a tenth of it.
SLOW_US: Final = 20_000

_ID: Final = "candidate"
_MEMORY_BYTES: Final = 512 << 20
_START_TIMEOUT_S: Final = 15.0
# After so many deadlines of the clock a text is given up all the same.
_PATIENCE: Final = 4.0
_LOOK_S: Final = 0.02
_FIRST_BATCH: Final = 4
_LARGEST_BATCH: Final = 128
_LARGEST_BATCH_CHARS: Final = 4 << 20
# A batch that takes less than this is followed by a larger one.
_QUICK_US: Final = SLOW_US // 2
_MEASUREMENTS: Final = 3
_MOST_IN_A_ROW: Final = 3
_MOST_IN_ALL: Final = 20


@dataclass(frozen=True)
class Answer:
    """What the text says of one input, and how long that took OPA."""

    said: Said
    took_us: int


class GivenUp(EvaluationFailed):
    """The text took too much time or memory too often; `at` counts the answers that it had given before."""

    def __init__(self, cause: str, file: str, at: int) -> None:
        super().__init__(cause, policy_name=file)
        self.at = at


class Trial:
    """Made by `opened`. `file` is what errors call the text."""

    def __init__(
        self, opa: Path, policy: CompiledPolicy, file: str, *, sanitizer_key: str, deadline_s: float
    ) -> None:
        self._opa = opa
        self._ref = PolicyRef("", file, 1)
        self._deadline_s = deadline_s
        self._module = rewriting.render(policy.module, _ID, 1)
        self._contents = bundle.Contents(sanitizer_key, {_ID: self._module})
        rules = sorted(policy.kind.rules | policy.kind.further_rules)
        self._question = f'{{"rules":{json.dumps(rules)},"policies":["{_ID}"],"input":'
        self._child: Child | None = None
        self._size = _FIRST_BATCH
        self._over_in_a_row = self._over_in_all = 0
        self._given = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls, opa: Path, policy: CompiledPolicy, file: str, *, sanitizer_key: str, deadline_s: float
    ) -> AsyncIterator[Self]:
        """Nothing of its OPA is left after the block."""
        trial = cls(opa, policy, file, sanitizer_key=sanitizer_key, deadline_s=deadline_s)
        try:
            yield trial
        finally:
            await trial._drop_child()

    async def answers(self, inputs: Sequence[str]) -> list[Answer]:
        """Each input's answer, in order; inputs are JSON.

        Raises:
            GivenUp: the text takes too much time or memory, three times in a row or twenty in all.
            OpaUnavailable: its OPA does not start.
        """
        found: list[Answer] = []
        while len(found) < len(inputs):
            found += await self._batch(self._next_batch(inputs[len(found) :]))
        return found

    def _next_batch(self, inputs: Sequence[str]) -> Sequence[str]:
        chars = count = 0
        for each in inputs[: self._size]:
            chars += len(each)
            if count and chars > _LARGEST_BATCH_CHARS:
                break
            count += 1
        return inputs[:count]

    async def _batch(self, inputs: Sequence[str]) -> list[Answer]:
        try:
            said, took_us = await self._asked(inputs)
        except QueryError as error:
            if len(inputs) == 1:
                return [self._answered(self._failed(cause(error.report, self._author_line)), 0)]
            return await self._halves(inputs)
        except _OverLimitError as error:
            if len(inputs) == 1:
                return [self._over(error)]
            # One after the other, so that the first of them is known soon.
            self._size = _FIRST_BATCH
            return [answer for each in inputs for answer in await self._batch([each])]
        if took_us > SLOW_US:
            if len(inputs) > 1:
                return await self._halves(inputs)
            took_us = await self._quickest(inputs, took_us)
        elif took_us < _QUICK_US:
            self._size = min(2 * self._size, _LARGEST_BATCH)
        return [self._answered(each, took_us // len(inputs)) for each in said]

    async def _halves(self, inputs: Sequence[str]) -> list[Answer]:
        middle = len(inputs) // 2
        self._size = max(1, middle)
        return [*await self._batch(inputs[:middle]), *await self._batch(inputs[middle:])]

    async def _quickest(self, inputs: Sequence[str], took_us: int) -> int:
        """What disturbs the machine must not look like a slow policy."""
        for _ in range(_MEASUREMENTS - 1):
            with contextlib.suppress(QueryError, _OverLimitError):
                took_us = min(took_us, (await self._asked(inputs))[1])
        return took_us

    def _answered(self, said: Said, took_us: int) -> Answer:
        self._over_in_a_row = 0
        self._given += 1
        return Answer(said, took_us)

    def _over(self, error: _OverLimitError) -> Answer:
        self._over_in_a_row += 1
        self._over_in_all += 1
        if self._over_in_a_row >= _MOST_IN_A_ROW or self._over_in_all >= _MOST_IN_ALL:
            raise GivenUp(str(error), self._ref.name, self._given)
        self._given += 1
        return Answer(self._failed(str(error)), error.took_us)

    async def _asked(self, inputs: Sequence[str]) -> tuple[list[Evaluation], int]:
        child = await self._running()
        questions = (f"{self._question}{each}}}" for each in inputs)
        try:
            answer, took_us = await self._answer(child, questions)
        except TimeoutError:
            # It may be in a built-in that nothing but its end interrupts.
            await self._drop_child()
            late = f"it takes more than {self._deadline_s:g} s"
            raise _OverLimitError(late, int(self._deadline_s * 1_000_000)) from None
        except ConnectionLostError as error:
            await self._drop_child()
            if not child.connection.was_exhausted:
                raise _OverLimitError(f"OPA died of it: {child.last_output or error}", 0) from error
            raise _OverLimitError(f"it takes more than {_MEMORY_BYTES >> 20} MiB of memory", 0) from error
        if not isinstance(answer, dict) or answer.get("instance") != child.connection.instance:
            raise OpaUnavailable("what answers is not the OPA that was started for the text")
        return [self._evaluation(each) for each in answer["verdicts"]], took_us

    async def _answer(self, child: Child, questions: Iterable[str]) -> tuple[Any, int]:
        """Raises TimeoutError once OPA has used the deadline's processor time: a busy machine is no text's fault."""
        asking = asyncio.ensure_future(child.connection.ask_measured(questions))
        before_s, left_s = child.cpu_s(), self._deadline_s
        try:
            while left_s > 0:
                # It has one core, so it cannot have used up what is left any sooner.
                done, _ = await asyncio.wait({asking}, timeout=max(left_s, _LOOK_S))
                if done:
                    return asking.result()
                left_s = self._deadline_s - (child.cpu_s() - before_s)
            raise TimeoutError
        finally:
            asking.cancel()

    async def _running(self) -> Child:
        if self._child is None:
            limits = Limits(_MEMORY_BYTES, cores=1, gives_way=True)
            try:
                async with asyncio.timeout(_START_TIMEOUT_S):
                    self._child = await Child.start(
                        self._opa, self._contents, limits=limits, deadline_s=_PATIENCE * self._deadline_s
                    )
            except (ChildDiedError, TimeoutError) as error:
                raise OpaUnavailable(f"an OPA for the text does not start: {error}") from error
        return self._child

    async def _drop_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.stop()

    def _evaluation(self, verdicts: Any) -> Evaluation:
        rules = verdicts[_ID]["rules"]
        return Evaluation(
            self._ref, {name: RuleValue(each["type"], each["value"]) for name, each in rules.items()}
        )

    def _failed(self, why: str) -> EvaluationFailed:
        return EvaluationFailed(why, policy_name=self._ref.name)

    def _author_line(self, policy_id: str, line: int) -> int:  # noqa: ARG002  # there is one
        return rewriting.author_line(self._module, line)


class _OverLimitError(Exception):
    """Too much time or memory; the message says which."""

    def __init__(self, message: str, took_us: int) -> None:
        super().__init__(message)
        self.took_us = took_us
