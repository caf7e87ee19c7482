"""A limit as a value, and which of several counts. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from interlock.v1 import limit_pb2

# As a subject: each pool, caller or stack, in what its own limit does not set.
EACH: Final = "*"
_SETTINGS: Final = ("max_active", "max_queued", "queue_timeout_us")


class Kind(StrEnum):
    """What a limit's subject names."""

    POOL = "POOL"
    LABEL = "LABEL"  # of stacks
    CALLER = "CALLER"  # by login
    STACK = "STACK"

    def to_proto(self) -> limit_pb2.LimitKind.ValueType:
        return limit_pb2.LimitKind.Value(f"LIMIT_KIND_{self.value}")


@dataclass(frozen=True, slots=True)
class Limit:
    """None: not limited. Times are Unix microseconds."""

    kind: Kind
    subject: str
    id: str = ""
    max_active: int | None = None
    max_queued: int | None = None
    queue_timeout_us: int | None = None
    version: int = 0
    created_at: int = 0
    updated_at: int = 0

    @property
    def etag(self) -> str:
        return str(self.version)


@dataclass(frozen=True, slots=True)
class Reached:
    """A limit that holds something back. `subject` is whom it is about, also where the limit is for each."""

    kind: Kind
    subject: str
    most: int
    count: int

    @property
    def whose(self) -> str:
        """Completes "of"."""
        match self.kind:
            case Kind.POOL:
                return f"pool {self.subject}"
            case Kind.LABEL:
                return f"stacks with label {self.subject}"
            case Kind.CALLER:
                return self.subject
            case Kind.STACK:
                return f"stack {self.subject}"

    def to_proto(self) -> limit_pb2.LimitReached:
        return limit_pb2.LimitReached(
            kind=self.kind.to_proto(), subject=self.subject, most=self.most, count=self.count
        )


class Limits:
    """Several, to be asked which one counts."""

    def __init__(self, limits: Iterable[Limit]) -> None:
        self._limits = {(limit.kind, limit.subject): limit for limit in limits}

    def __bool__(self) -> bool:
        return bool(self._limits)

    def of(self, kind: Kind, subject: str) -> Limit | None:
        """Its own, and what that does not set as for each."""
        own, each = self._limits.get((kind, subject)), self._limits.get((kind, EACH))
        if own is None or each is None:
            return own or each
        unset = {name: getattr(each, name) for name in _SETTINGS if getattr(own, name) is None}
        return replace(own, **unset)

    def subjects(self, kind: Kind) -> frozenset[str]:
        return frozenset(subject for found, subject in self._limits if found is kind)
