"""The clock that all control planes share: PostgreSQL's; with SQLite there is one control plane, and its own will do."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from control_plane import clock

# In PostgreSQL: whole microseconds since the Unix epoch, as of this statement.
NOW_US: Final = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()) * 1_000_000, sa.BigInteger)


def now_us(connection: sa.Connection) -> int:
    if connection.dialect.name != "postgresql":
        return clock.now_us()
    return int(connection.execute(sa.select(NOW_US)).scalar_one())
