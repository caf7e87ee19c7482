"""The hash chain of the audit log, as values: what is hashed, how a seal is made, how a log is checked.

A seal's hash is SHA-256 over `previous_hash`, its sequence and every stored column of its event. Whoever changes,
takes out or moves an event must make every later hash anew, and is then found out by a head that was noted before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

# What the first seal has for the hash before it.
GENESIS: Final = "0" * 64
# Begins what is hashed, so that these bytes mean nothing else anywhere; changes with the form.
_DOMAIN: Final = b"interlock.audit.v1"


@dataclass(frozen=True, slots=True)
class Event:
    """An audit event, column by column as it is stored."""

    id: str
    occurred_at: int
    caller_id: str
    caller_login: str
    caller: bytes
    action: str
    resource_type: str
    resource_id: str
    stack_id: str
    remote_ip: str
    details: str


@dataclass(frozen=True, slots=True)
class Head:
    """The newest seal of a log; an empty log has sequence 0."""

    sequence: int = 0
    hash: str = GENESIS


@dataclass(frozen=True, slots=True)
class Seal:
    sequence: int
    event_id: str
    previous_hash: str
    hash: str

    @property
    def head(self) -> Head:
        return Head(self.sequence, self.hash)


@dataclass(frozen=True, slots=True)
class Fault:
    sequence: int
    problem: str


def seal(head: Head, events: Iterable[Event]) -> Iterator[Seal]:
    """The seals of `events`, in their order, after `head`."""
    for event in events:
        made = Seal(head.sequence + 1, event.id, head.hash, event_hash(event, head.sequence + 1, head.hash))
        yield made
        head = made.head


def event_hash(event: Event, sequence: int, previous_hash: str) -> str:
    return hashlib.sha256(canonical_bytes(event, sequence, previous_hash)).hexdigest()


def canonical_bytes(event: Event, sequence: int, previous_hash: str) -> bytes:
    """Every value after its length, in a fixed order: no two different events give the same bytes."""
    values: tuple[bytes | str | int, ...] = (
        _DOMAIN,
        previous_hash,
        sequence,
        event.id,
        event.occurred_at,
        event.caller_id,
        event.caller_login,
        event.caller,
        event.action,
        event.resource_type,
        event.resource_id,
        event.stack_id,
        event.remote_ip,
        event.details,
    )
    return b"".join(part for value in map(_bytes, values) for part in (len(value).to_bytes(8, "big"), value))


def _bytes(value: bytes | str | int) -> bytes:
    # Whatever somebody has put into a column, also of another type: it must make another hash, not an error.
    return value if isinstance(value, bytes) else str(value).encode()


class Verifier:
    """Takes a log seal by seal, in the order of their sequences, and stops at the first fault."""

    def __init__(self, known_head: Head | None = None) -> None:
        self._known_head = known_head or Head()
        self.head = Head()
        self.fault: Fault | None = None

    def take(self, seal: Seal, event: Event | None) -> bool:
        """Checks the next seal and the event that it names, None where there is no such event. False at a fault."""
        expected = self.head.sequence + 1
        problem = self._problem(seal, event, expected)
        if problem:
            self.fault = Fault(min(seal.sequence, expected), problem)
            return False
        self.head = seal.head
        return True

    def finish(self) -> Fault | None:
        """The log's first fault, once every seal was taken."""
        if self.fault is None and self.head.sequence < self._known_head.sequence:
            ends, known = self.head.sequence, self._known_head.sequence
            self.fault = Fault(
                ends + 1, f"the log ends at {ends}, before the known head {known}: it was cut off"
            )
        return self.fault

    def _problem(self, seal: Seal, event: Event | None, expected: int) -> str:
        if seal.sequence != expected:
            return f"seal {expected} is missing; the next one is {seal.sequence}"
        if seal.previous_hash != self.head.hash:
            return (
                f"seal {expected} does not continue the one before: one of them was changed, or the order was"
            )
        if event is None:
            return f"event {seal.event_id} of seal {expected} is missing"
        if seal.hash != event_hash(event, seal.sequence, seal.previous_hash):
            return f"event {seal.event_id} or its seal {expected} was changed"
        known = self._known_head
        if seal.sequence == known.sequence and seal.hash != known.hash:
            return f"seal {expected} is not the known head: the log was written anew"
        return ""
