"""The phases of a run inside its container, and the marks in its output that tell where they begin and end.

The script (runner/script.py) prints the marks, `PhaseSplitter` takes them out again. It is pure and
incremental: the same bytes give the same bytes and events, however they are cut into chunks. A mark needs no
newline before it, so nothing but an unfinished mark is ever held back.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum

# ASCII's record separator: rare in output, so that looking for a cut-off mark costs nothing.
_MARK_START = "\x1einterlock:"
# Longer than any mark's text; what is longer was not printed by the script.
_MAX_MARK_TEXT = 64


class Phase(StrEnum):
    INITIALIZING = "initializing"
    PLANNING = "planning"
    """Of a tracked run, behind init; it has no gate."""
    PERFORMING = "performing"
    """The command, or a tracked run's apply."""
    FINISHING = "finishing"
    """The after_run hooks. The run's result stands before they start."""


class Step(StrEnum):
    """What runs inside a phase, in this order."""

    BEFORE_INIT = "before_init"
    INIT = "init"
    AFTER_INIT = "after_init"
    BEFORE_PLAN = "before_plan"
    PLAN = "plan"
    AFTER_PLAN = "after_plan"
    BEFORE_PERFORM = "before_perform"
    COMMAND = "command"
    AFTER_PERFORM = "after_perform"
    BEFORE_APPLY = "before_apply"
    APPLY = "apply"
    AFTER_APPLY = "after_apply"
    AFTER_RUN = "after_run"


@dataclass(frozen=True)
class PhaseBegan:
    phase: Phase


@dataclass(frozen=True)
class StepBegan:
    """`index` counts the step's commands from 0."""

    step: Step
    index: int


@dataclass(frozen=True)
class GateReached:
    """Init is done; the script waits for the gate's token."""


@dataclass(frozen=True)
class PhaseEnded:
    """After a failed phase, and after performing, `exit_code` is the one that the container will have."""

    phase: Phase
    exit_code: int


_PHASES: frozenset[str] = frozenset(Phase)
_STEPS: frozenset[str] = frozenset(Step)

PhaseEvent = PhaseBegan | StepBegan | GateReached | PhaseEnded


def new_nonce() -> str:
    """Known to nobody but one run's script and the runner."""
    return secrets.token_hex(16)


def mark(nonce: str, text: str) -> str:
    """What the script prints, followed by a newline, to say `text`.

    An empty mark goes before it and ends the line that the command may have left open: the engine's log may lose
    the newline behind a long line until the next one comes, and behind the gate's mark there comes none.
    """
    return f"{_token(nonce)}\n{_token(nonce)}{text}"


def _token(nonce: str) -> str:
    return f"{_MARK_START}{nonce}:"


class PhaseSplitter:
    """Splits a container's output into what its commands wrote and the events that the marks tell."""

    def __init__(self, nonce: str) -> None:
        self._token = _token(nonce).encode()
        self._held = b""
        self._phase: Phase | None = None

    def feed(self, data: bytes) -> list[bytes | PhaseEvent]:
        """The next bytes of the output; gives what is certain now, in order, without empty pieces."""
        data = self._held + data if self._held else data
        pieces: list[bytes | PhaseEvent] = []
        position = 0
        while (found := data.find(self._token, position)) >= 0:
            text_start = found + len(self._token)
            end = data.find(b"\n", text_start, text_start + _MAX_MARK_TEXT)
            if end < 0 and len(data) - text_start < _MAX_MARK_TEXT:
                return self._hold(pieces, data, position, found)
            events = self._events(data[text_start:end]) if end >= 0 else None
            # Not a mark of ours, though it has our nonce: leave it in the output, where it does no harm.
            taken = found if events is not None else text_start
            if taken > position:
                pieces.append(data[position:taken])
            pieces.extend(events or ())
            position = end + 1 if events is not None else text_start
        return self._hold(pieces, data, position, self._token_start(data, position))

    def finish(self) -> list[bytes | PhaseEvent]:
        """The output has ended. A last mark may lack its newline when the container was killed."""
        held, self._held = self._held, b""
        if held.startswith(self._token):
            events = self._events(held[len(self._token) :])
            if events is not None:
                return list(events)
        return [held] if held else []

    def _hold(
        self, pieces: list[bytes | PhaseEvent], data: bytes, position: int, hold_from: int
    ) -> list[bytes | PhaseEvent]:
        if hold_from > position:
            pieces.append(data[position:hold_from] if hold_from - position < len(data) else data)
        self._held = data[hold_from:]
        return pieces

    def _token_start(self, data: bytes, position: int) -> int:
        """Where the data's tail could become a token. The token's first byte occurs in it only once."""
        start = data.rfind(self._token[:1], max(position, len(data) - len(self._token) + 1))
        return start if start >= 0 and self._token.startswith(data[start:]) else len(data)

    def _events(self, text: bytes) -> tuple[PhaseEvent, ...] | None:
        match text.decode("ascii", "replace").split(" "):
            case [""]:
                return ()
            case ["begin", phase] if phase in _PHASES:
                # Between init and plan there is no gate, whose mark would tell init's end.
                before, self._phase = self._phase, Phase(phase)
                ended = (PhaseEnded(Phase.INITIALIZING, 0),) if before is Phase.INITIALIZING else ()
                return (*ended, PhaseBegan(self._phase))
            case ["step", step, index] if step in _STEPS and index.isdecimal():
                return (StepBegan(Step(step), int(index)),)
            case ["gate"] if self._phase is Phase.INITIALIZING:
                self._phase = None
                return (PhaseEnded(Phase.INITIALIZING, 0), GateReached())
            case ["end", code] if code.isdecimal():
                # No phase is open when the gate was refused.
                over, self._phase = self._phase, None
                return (PhaseEnded(over, int(code)),) if over else ()
        return None
