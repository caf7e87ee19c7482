"""What may end a run before its gate: a stop and two time-outs. Behind the gate they end nothing; they are logged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

import structlog

from runner.journal import Outcome, Result

log = structlog.get_logger(__name__)


class BeforeGate:
    """`async with before_gate.interruptible()`: what is in there ends early when somebody calls `interrupt`."""

    def __init__(self, run_id: str, *, total_timeout_s: float, no_output_timeout_s: float) -> None:
        self._run_id = run_id
        self._total_s = total_timeout_s
        self._silence_s = no_output_timeout_s
        self._scope: asyncio.Timeout | None = None
        self._interruption: Result | None = None
        self._is_reached = False
        self._is_passed = False

    @property
    def interruption(self) -> Result | None:
        """Why the run was cut short, if it was."""
        return self._interruption

    @property
    def is_passed(self) -> bool:
        """`go` was received."""
        return self._is_passed

    def reach(self) -> None:
        """Init is done. From here on only the control plane decides, however long it is out of reach."""
        self._is_reached = True
        if self._scope is not None and self._interruption is None and not self._scope.expired():
            self._scope.reschedule(None)

    def let_pass(self) -> bool:
        """`go` was received. False when the run was cut short before."""
        if self._interruption is not None:
            return False
        self._is_passed = True
        return True

    def interrupt(self, result: Result) -> None:
        if self._is_passed:
            log.warning(
                "run.goes_on", run_id=self._run_id, ignored=result.reason, why="it has passed its gate"
            )
            return
        if self._interruption is None:
            self._interruption = result
            if self._scope is not None and not self._scope.expired():
                self._scope.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def interruptible(self) -> AsyncIterator[None]:
        """Cut short, it ends without an error; `interruption` then says why."""
        try:
            async with asyncio.timeout(self._may_take_s()) as self._scope:
                yield
        except TimeoutError:
            if self._scope is None or not self._scope.expired():
                raise
            if self._interruption is None:
                self._interruption = _timed_out(f"it took longer than {self._total_s:g} s")
        finally:
            self._scope = None

    def _may_take_s(self) -> float | None:
        if self._interruption is not None:
            return 0
        return None if self._is_reached or self._is_passed else self._total_s

    async def watch_silence(self, last_output_s: Callable[[], float]) -> NoReturn:
        """From now on, interrupts a run that writes nothing for too long. Runs until cancelled."""
        quiet_since_s = time.monotonic()
        while True:
            await asyncio.sleep(max(quiet_since_s + self._silence_s - time.monotonic(), 0))
            if self._is_reached and not self._is_passed:
                quiet_since_s = time.monotonic()
            elif last_output_s() > quiet_since_s:
                quiet_since_s = last_output_s()
            else:
                self.interrupt(_timed_out(f"nothing was written for {self._silence_s:g} s"))
                quiet_since_s = time.monotonic()


def _timed_out(cause: str) -> Result:
    return Result(outcome=Outcome.TIMED_OUT, reason=f"timed out: {cause}; the command was not performed")
