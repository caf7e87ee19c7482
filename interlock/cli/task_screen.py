"""What a followed run looks like: output on standard output, states on standard error."""

import json
import sys
from collections.abc import Iterator
from typing import Protocol

from google.protobuf import json_format

from interlock import enums
from interlock.cli import durations, show
from interlock.states import is_final
from interlock.types import OutputChunk, Run, RunState, StateChange, Waiting
from interlock.v1.run_pb2 import RUN_STATE_FAILED, RUN_STATE_FINISHED, RUN_TYPE_HOLD
from interlock.v1.run_service_pb2 import WatchRunResponse

DIM, PLAIN = "\x1b[2m", "\x1b[0m"


class Screen(Protocol):
    """Shows one run."""

    def show_run(self, run: Run) -> None: ...

    def show_output(self, chunk: OutputChunk) -> None: ...

    def say(self, sentence: str) -> None:
        """A word to the person who watches."""


class TextScreen:
    """Output byte for byte; states as lines that begin with `interlock:`."""

    def __init__(self) -> None:
        self._states = States()
        self._dim, self._plain = (DIM, PLAIN) if sys.stderr.isatty() else ("", "")
        self._shares_terminal = sys.stderr.isatty() and sys.stdout.isatty()
        self._is_mid_line = False

    def show_run(self, run: Run) -> None:
        for line in self._states.new_lines(run):
            self.say(line)

    def show_output(self, chunk: OutputChunk) -> None:
        sys.stdout.buffer.write(chunk.data)
        sys.stdout.buffer.flush()
        self._is_mid_line = not chunk.data.endswith(b"\n")

    def say(self, sentence: str) -> None:
        if self._is_mid_line and self._shares_terminal:
            sys.stderr.write("\n")
            self._is_mid_line = False
        print(f"{self._dim}interlock: {show.visible(sentence)}{self._plain}", file=sys.stderr, flush=True)


class JsonScreen:
    """The API's own events, one a line: `{"run": …}` or `{"output": {"offset": …, "data": BASE64}}`."""

    def show_run(self, run: Run) -> None:
        self._print(WatchRunResponse(run=run))

    def show_output(self, chunk: OutputChunk) -> None:
        self._print(WatchRunResponse(output=chunk))

    def say(self, sentence: str) -> None:
        show.note(f"interlock: {sentence}")

    def _print(self, event: WatchRunResponse) -> None:
        print(json.dumps(json_format.MessageToDict(event, preserving_proto_field_name=True)), flush=True)


class States:
    """Turns what the server says about a run into lines, each said once."""

    def __init__(self) -> None:
        self._changes_told = 0
        self._waits_for = ("", 0)
        self._is_unreachable = False

    def new_lines(self, run: Run) -> Iterator[str]:
        if not self._changes_told:
            yield f"{run.id} on {run.stack_id}"
        changes = list(run.history) or [StateChange(state=run.state, reason=run.state_reason)]
        for change in changes[self._changes_told :]:
            yield _line(change, run)
        self._changes_told = len(changes)
        # A wait that comes a little closer is no news; another reason or place is.
        waits_for = (run.waiting.message, run.waiting.position)
        if run.waiting.message and waits_for != self._waits_for:
            yield f"waits: {run.waiting.message}{place(run.waiting)}"
        self._waits_for = waits_for
        is_unreachable = run.HasField("unreachable_since") and not is_final(run)
        if is_unreachable and not self._is_unreachable:
            yield "its runner is out of reach; the run keeps the stack's slot until the runner is back"
        if self._is_unreachable and not is_unreachable and not is_final(run):
            yield "its runner is back"
        self._is_unreachable = is_unreachable


def place(waiting: Waiting) -> str:
    """Where a run stands in its stack's queue, and how long that may take; empty where it is next or not known."""
    parts = [f"number {waiting.position} in the queue"] if waiting.position > 1 else []
    if waiting.HasField("expected_wait"):
        parts.append(f"about {durations.about(waiting.expected_wait.ToTimedelta())}")
    return f" ({', '.join(parts)})" if parts else ""


def _line(change: StateChange, run: Run) -> str:
    name = enums.name(RunState, change.state)
    if change.state == RUN_STATE_FINISHED and run.type != RUN_TYPE_HOLD:
        return f"{name}, exit code {run.exit_code}"
    why = run.state_reason if change.state == RUN_STATE_FAILED else change.reason
    return f"{name}: {why}" if why else name
