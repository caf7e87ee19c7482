"""A control plane's part in a set of them: what it hears and tells, and its rounds. With SQLite there is no set."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from control_plane.replicas.bus import Bus, Nobody
from control_plane.replicas.hearing import Hearing
from control_plane.replicas.registry import Registry
from control_plane.replicas.rounds import Rounds
from control_plane.storage.database import Database

if TYPE_CHECKING:
    from control_plane.replicas.postgres_bus import PostgresBus


def postgres_bus(db: Database, registry: Registry) -> PostgresBus | None:
    """What this control plane hears and tells the others by; None where there cannot be any."""
    if registry.is_alone:
        return None
    from control_plane.replicas.postgres_bus import PostgresBus  # noqa: PLC0415  # its driver is an extra

    return PostgresBus(db.url, registry.id)


@dataclass(frozen=True)
class Together:
    """`bus` None: this control plane is alone."""

    bus: PostgresBus | None
    hearing: Hearing
    rounds: Rounds

    async def serve(self) -> None:
        """Listens, tells and goes round until cancelled; returns at once where there are no others."""
        if self.bus is None:
            return
        self.bus.heard = self.hearing.hear
        self.bus.missed = self.rounds.missed
        async with asyncio.TaskGroup() as group:
            group.create_task(self.bus.serve())
            group.create_task(self.rounds.serve())


def told(bus: PostgresBus | None) -> Bus:
    """Where changes are told."""
    return bus or Nobody()
