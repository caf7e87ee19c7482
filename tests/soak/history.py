"""What was seen during a soak, by callers, by watchers, outside of the containers, and afterwards in the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tests.soak.command import Command


class Answer(StrEnum):
    """What a caller knows after a call."""

    DONE = "done"
    # The call changed nothing, says the server.
    REFUSED = "refused"
    # No answer came: it may have been done.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Created:
    """One CreateTask. `run_id` is empty without an answer."""

    command: Command
    answer: Answer
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Execution:
    """One container that began a command, seen from outside. Times are Unix seconds by the kernel's clock."""

    key: str
    stack_id: str
    container: str
    began: float
    last_life: float
    # The counter that it wrote; None where it did not come to its end.
    count: int | None


@dataclass(frozen=True, slots=True)
class Record:
    """One run, as the control plane shows it afterwards. `steps`: its states with their Unix seconds, in order."""

    run_id: str
    command: str
    stack_id: str
    steps: Sequence[tuple[str, float]]
    failure: str
    exit_code: int | None
    fence: int
    output: bytes
    output_sha256: str
    audited: Sequence[str]

    @property
    def state(self) -> str:
        return self.steps[-1][0]

    def since(self, state: str) -> float | None:
        """When it came into this state last; None if never."""
        times = [time for name, time in self.steps if name == state]
        return times[-1] if times else None


@dataclass(slots=True)
class History:
    created: list[Created] = field(default_factory=list)
    # Run ids whose stop was acknowledged.
    stopped: set[str] = field(default_factory=set)
    # Run ids that an admin abandoned: they may have been performing when their slot was freed.
    abandoned: set[str] = field(default_factory=set)
    # Per watcher that followed a run to its end: the run's id, and the bytes that it was given.
    watched: list[tuple[str, bytes]] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    # Per stack, the lines that executions wrote at their begin and end.
    books: Mapping[str, Sequence[str]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    # Stacks whose slot somebody still holds.
    held_slots: Mapping[str, str] = field(default_factory=dict)
    containers_left: Sequence[str] = ()
    audit_fault: str = ""
    # What went wrong in the eyes of a caller or watcher and is no fault that was injected.
    complaints: list[str] = field(default_factory=list)
    # From when to when a Docker Engine was down, whose containers lived on.
    engine_outages: list[tuple[float, float]] = field(default_factory=list)
    # Whether containers were killed by the engine: then a command may have been cut off.
    containers_were_killed: bool = False
