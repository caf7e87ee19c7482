"""Invariant 7: an event is written in the transaction of its change."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from control_plane.audit import events
from control_plane.storage.tables import audit_events, counters
from tests.integration.audit.house import ADMIN, House


async def test_a_change_that_is_rolled_back_leaves_no_event(house: House) -> None:
    """Invariant 7: change and event are one transaction, so there is never one without the other."""

    def unit(connection: sa.Connection) -> None:
        connection.execute(sa.update(counters).values(value=7))
        events.record(connection, ADMIN, "policy.created", "policy", "pol_1")
        raise RuntimeError("broken after the event was written")

    with pytest.raises(RuntimeError):
        await house.db.write(unit)

    with house.db.engine.connect() as connection:
        assert connection.execute(sa.select(counters.c.value)).scalar_one() == 0
        assert connection.execute(sa.select(sa.func.count()).select_from(audit_events)).scalar_one() == 0
    assert (await house.verify()).unsealed == 0


async def test_a_change_whose_event_cannot_be_written_does_not_happen(house: House) -> None:
    """Invariant 7, the other way round: no event, no change."""
    await house.execute("ALTER TABLE audit_events RENAME TO gone")

    def unit(connection: sa.Connection) -> None:
        connection.execute(sa.update(counters).values(value=7))
        events.record(connection, ADMIN, "policy.created", "policy", "pol_1")

    with pytest.raises(Exception, match="audit_events"):
        await house.db.write(unit)

    with house.db.engine.connect() as connection:
        assert connection.execute(sa.select(counters.c.value)).scalar_one() == 0
