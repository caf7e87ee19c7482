"""What one control plane tells the others after a commit. A hint: who misses it finds the change by its rounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# PostgreSQL takes payloads shorter than 8000 bytes.
MAX_PAYLOAD_BYTES: Final = 7900


class Kind(StrEnum):
    """What the note's subject is the id of."""

    RUN = "run"  # a run's record changed
    OUTPUT = "output"  # more of a run's output is stored
    STACK = "stack"  # a stack's queue or slot changed: there may be something to start
    STOP = "stop"  # a run whose runner must be told to stop
    RUNNERS = "runners"  # runners came, went or changed; no subject
    TAKEN_OVER = "taken-over"  # a runner that has connected elsewhere: RUNNER_ID/EPOCH
    POOL_TOKEN = "pool-token"  # noqa: S105  # a pool token that was revoked
    POOL = "pool"  # a pool that was deleted
    KEY = "key"  # an API key that was revoked
    LIMITS = "limits"  # limits were set or deleted; no subject
    POLICIES = "policies"  # policies were changed; no subject


@dataclass(frozen=True, slots=True)
class Note:
    kind: Kind
    subject: str = ""


def encode(sender: str, notes: Iterable[Note]) -> Iterator[str]:
    """Payloads, each with its sender first and then a note a line."""
    lines, size = [sender], len(sender)
    for note in notes:
        line = f"{note.kind.value} {note.subject}"
        if size + len(line) + 1 > MAX_PAYLOAD_BYTES:
            yield "\n".join(lines)
            lines, size = [sender], len(sender)
        lines.append(line)
        size += len(line) + 1
    if len(lines) > 1:
        yield "\n".join(lines)


def decode(payload: str) -> tuple[str, list[Note]]:
    """The sender and its notes. A kind that a newer release has added is passed over."""
    sender, *lines = payload.split("\n")
    known = {kind.value for kind in Kind}
    parts = (line.partition(" ") for line in lines)
    return sender, [Note(Kind(kind), subject) for kind, _, subject in parts if kind in known]
