"""What one run tells the control plane: its state, turned into messages, on whichever stream there is.

Nothing is queued: each message is made from the run's state when the stream can take it, so a slow or lost stream
costs no memory, and a new one begins where the control plane says it stands.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

import structlog

from interlock.v1.run_pb2 import RUN_STATE_PREPARING, RunState
from interlock.v1.runner_service_pb2 import (
    AssignmentAccepted,
    AssignmentRef,
    ConnectRequest,
    GateRequest,
    OutputReport,
    PhaseReport,
    RunResult,
)
from runner.connection import Send
from runner.spool import Spool

log = structlog.get_logger(__name__)

MAX_CHUNK_BYTES = 256 << 10
# Output waits until there is so much, or until so long after the last; the first bytes after a pause go at once.
_WORTH_SENDING_BYTES = 64 << 10
_COALESCE_S = 0.05
_REPEAT_RESULT_S = 5.0
# After the control plane refused something: its disk is full, or it has other bytes.
_REFUSED_PAUSE_S = 1.0


@dataclass
class _Told:
    """What was said on the present stream."""

    accepted: bool = False
    phase: RunState.ValueType = RUN_STATE_PREPARING
    gate: bool = False
    offset: int = 0
    result_at_s: float = float("-inf")


@dataclass
class Report:
    """Filled in by the run, told by `tell`. Call `change` after every change."""

    assignment: AssignmentRef
    spool: Spool
    accepted: bool = False
    """The assignment is in the journal."""
    phase: RunState.ValueType = RUN_STATE_PREPARING
    is_at_gate: bool = False
    """An answer is wanted."""
    result: RunResult | None = None
    """Set when all output is in the spool."""
    output_end: int | None = None
    """Nothing behind this offset is to be sent; None: no such bound."""
    acknowledged: int = 0
    is_closed: bool = False
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """The control plane needs nothing more of this run."""
    room: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever part of the spool was freed."""
    _told: _Told = field(default_factory=_Told)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _last_output_s: float = float("-inf")
    _not_before_s: float = float("-inf")

    def change(self) -> None:
        self._changed.set()

    def close(self) -> None:
        """Nobody wants to hear more of it."""
        self.spool.close()
        self.is_closed = True

    def begin_stream(self) -> None:
        """A hello is being written that says what is true now."""
        self._told = _Told(accepted=True, phase=self.phase, offset=self.acknowledged)

    def continue_from(self, acknowledged: int) -> None:
        """The control plane has this much of the output; what comes next begins there."""
        self.output_acknowledged(acknowledged)
        self._go_back(acknowledged)

    def output_acknowledged(self, offset: int) -> None:
        if offset > self.spool.size:
            # A replay after a restart has not come so far yet.
            self.acknowledged = max(self.acknowledged, offset)
            return
        self.spool.free(offset)
        self.acknowledged = max(self.acknowledged, offset)
        self._told.offset = max(self._told.offset, self.spool.freed)
        self.room.set()
        self.change()

    def refused(self, acknowledged: int) -> None:
        """Something that was told was not taken: all of it is told again, and not at once."""
        self._not_before_s = time.monotonic() + _REFUSED_PAUSE_S
        self._told.accepted, self._told.phase, self._told.gate = False, RUN_STATE_PREPARING, False
        self._told.result_at_s = float("-inf")
        self._go_back(acknowledged)
        self.change()

    def _go_back(self, offset: int) -> None:
        if offset < self.spool.freed:
            log.error(
                "output.gap",
                run_id=self.assignment.run_id,
                wanted_offset=offset,
                first_offset=self.spool.freed,
                hint="the control plane lost output that it had acknowledged",
            )
        self._told.offset = max(offset, self.spool.freed)

    async def tell(self, send: Send) -> NoReturn:
        """Sends what there is to say, in order, until it is cancelled."""
        while True:
            self._changed.clear()
            message = self._next()
            if message is None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), self._due_in_s())
            else:
                await send(message)

    def _next(self) -> ConnectRequest | None:
        if self.is_closed or time.monotonic() < self._not_before_s:
            return None
        return self._next_step() or self._next_output() or self._next_gate() or self._next_result()

    def _next_step(self) -> ConnectRequest | None:
        told = self._told
        if self.accepted and not told.accepted:
            told.accepted = True
            return ConnectRequest(accepted=AssignmentAccepted(assignment=self.assignment))
        if self.phase != told.phase and told.accepted:
            told.phase = self.phase
            return ConnectRequest(phase=PhaseReport(assignment=self.assignment, phase=self.phase))
        return None

    def _next_gate(self) -> ConnectRequest | None:
        """Behind all that init has written: so watchers see it before they hear that the command performs."""
        if not self.is_at_gate or self._told.gate or self._unsent or not self._told.accepted:
            return None
        self._told.gate = True
        return ConnectRequest(gate=GateRequest(assignment=self.assignment))

    def _next_output(self) -> ConnectRequest | None:
        now = time.monotonic()
        if not self._is_output_due(now):
            return None
        offset = self._told.offset
        data = self.spool.read(offset, min(self._unsent, MAX_CHUNK_BYTES))
        self._told.offset += len(data)
        self._last_output_s = now
        return ConnectRequest(output=OutputReport(assignment=self.assignment, offset=offset, data=data))

    def _next_result(self) -> ConnectRequest | None:
        now = time.monotonic()
        if self.result is None or self._unsent or now < self._told.result_at_s + _REPEAT_RESULT_S:
            return None
        self._told.result_at_s = now
        return ConnectRequest(result=self.result)

    @property
    def _unsent(self) -> int:
        end = self.spool.size if self.output_end is None else self.output_end
        return max(end - self._told.offset, 0)

    def _is_output_due(self, now: float) -> bool:
        if not self._unsent or not self._told.accepted:
            return False
        return (
            self._unsent >= _WORTH_SENDING_BYTES
            or self.result is not None
            or self.is_at_gate
            or now >= self._last_output_s + _COALESCE_S
        )

    def _due_in_s(self) -> float | None:
        """How long nothing can become due without a change; None: for ever."""
        now = time.monotonic()
        if self.is_closed:
            return None
        if now < self._not_before_s:
            return self._not_before_s - now
        if not self._told.accepted:
            return None
        if self._unsent:
            return self._last_output_s + _COALESCE_S - now
        if self.result is not None:
            return self._told.result_at_s + _REPEAT_RESULT_S - now
        return None
