"""What the limits of active runs leave, in one transaction: counted at its start, and with each run that it starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

import sqlalchemy as sa

from control_plane.limits import store
from control_plane.limits.limit import Kind, Limits, Reached


class Caps:
    """Counts runs that a runner has, by pool, stack label and caller."""

    def __init__(self, limits: Limits, active: Counter[tuple[Kind, str]]) -> None:
        self._limits = limits
        self._active = active
        self.labels = limits.subjects(Kind.LABEL)

    @classmethod
    def read(cls, connection: sa.Connection, *, hold: bool = False) -> Caps:
        """`hold`: nobody else who does so starts a run before the transaction ends. Costs one look without limits."""
        limits = Limits(store.of_active(connection, hold=hold))
        active: Counter[tuple[Kind, str]] = Counter()
        if limits:
            for pool_id, login, count in store.active(connection):
                active[Kind.POOL, pool_id] += count
                active[Kind.CALLER, login] += count
        if limited := limits.subjects(Kind.LABEL):
            for labels in store.labels_of_active(connection):
                active.update((Kind.LABEL, label) for label in limited.intersection(labels))
        return cls(limits, active)

    def reached(self, kind: Kind, subject: str) -> Reached | None:
        """None where one more may be started."""
        limit = self._limits.of(kind, subject)
        count = self._active[kind, subject]
        if limit is None or limit.max_active is None or count < limit.max_active:
            return None
        return Reached(kind, subject, limit.max_active, count)

    def full_label(self, labels: Iterable[str]) -> Reached | None:
        """The first of a stack's labels that is at its limit."""
        found = (self.reached(Kind.LABEL, label) for label in sorted(self.labels.intersection(labels)))
        return next((reached for reached in found if reached), None)

    def first_reached(self, pool_id: str, caller_login: str, labels: Collection[str]) -> Reached | None:
        """What keeps one more run of this caller on such a stack from starting."""
        return (
            self.reached(Kind.POOL, pool_id)
            or self.full_label(labels)
            or self.reached(Kind.CALLER, caller_login)
        )

    def active(self, kind: Kind, subject: str) -> int:
        return self._active[kind, subject]

    def started(self, pool_id: str, caller_login: str, labels: Iterable[str]) -> None:
        """One more run is given to a runner."""
        self._active[Kind.POOL, pool_id] += 1
        self._active[Kind.CALLER, caller_login] += 1
        self._active.update((Kind.LABEL, label) for label in self.labels.intersection(labels))
