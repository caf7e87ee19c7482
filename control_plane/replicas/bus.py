"""How a control plane tells the others what it has just changed."""

from __future__ import annotations

from typing import Protocol

from control_plane.replicas.notes import Kind


class Bus(Protocol):
    def tell(self, kind: Kind, subject: str = "") -> None:
        """Tells the others, soon. Called on the event loop, after the commit that it tells of."""


class Nobody:
    """There are no others: SQLite has one control plane."""

    def tell(self, kind: Kind, subject: str = "") -> None:
        pass
