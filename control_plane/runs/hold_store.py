"""Holds in the database: their leases, and whose turn it is. What they share with other runs is in `store`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import sqlalchemy as sa

from control_plane.limits.caps import Caps
from control_plane.limits.limit import Kind
from control_plane.queue import lanes, order
from control_plane.storage.tables import runs

_WAITING = sa.select(runs.c.id, runs.c.stack_id).where(
    runs.c.id.in_(sa.bindparam("run_ids", expanding=True)),
    runs.c.type == sa.literal_column("'HOLD'"),
    runs.c.state == sa.literal_column("'QUEUED'"),
)
_IN_QUEUE: Final = (
    runs.c.type == sa.literal_column("'HOLD'"),
    runs.c.state == sa.literal_column("'QUEUED'"),
)
# Somebody waits for these: they keep their place.
_ATTEND = (
    sa.update(runs)
    .where(runs.c.id.in_(sa.bindparam("run_ids", expanding=True)), *_IN_QUEUE)
    .values(lease_until=sa.bindparam("until"))
)
# Nobody does any more. Never longer than it was: another replica may know better.
_LEAVE = (
    sa.update(runs)
    .where(
        runs.c.id.in_(sa.bindparam("run_ids", expanding=True)),
        *_IN_QUEUE,
        runs.c.lease_until > sa.bindparam("until"),
    )
    .values(lease_until=sa.bindparam("until"))
)
_RUNNING_DOWN = (
    sa.select(runs.c.id, runs.c.state, runs.c.lease_us, runs.c.lease_until)
    .where(
        runs.c.lease_until.is_not(None),
        runs.c.state.in_([sa.literal_column(f"'{state}'") for state in ("QUEUED", "READY", "HELD")]),
    )
    .order_by(runs.c.lease_until)
    .limit(sa.bindparam("at_most"))
)


def next_in_turn(connection: sa.Connection, run_ids: Collection[str]) -> list[str]:
    """Those of these runs that are holds and may have the slot now: it is free, the lock is not another's, and they are
    first on their stack. Callers who may start nothing more are passed over; limits of active runs do not bind holds."""
    if not run_ids:
        return []
    caps = Caps.read(connection)
    waiting = connection.execute(_WAITING, {"run_ids": sorted(run_ids)}).all()
    found = []
    for stack_id in sorted({row.stack_id for row in waiting}):
        able = [
            contender
            for contender in lanes.able(connection, stack_id)
            if contender.is_hold or caps.reached(Kind.CALLER, contender.caller_login) is None
        ]
        if foremost := order.first(able):
            found.append(foremost.run_id)
    return [row.id for row in waiting if row.id in found]


def attend(connection: sa.Connection, run_ids: Collection[str], until_us: int) -> None:
    """Keeps these in the queue until then."""
    if run_ids:
        connection.execute(_ATTEND, {"run_ids": sorted(run_ids), "until": until_us})


def leave(connection: sa.Connection, run_ids: Collection[str], until_us: int) -> None:
    """Lets these wait no longer than until then."""
    if run_ids:
        connection.execute(_LEAVE, {"run_ids": sorted(run_ids), "until": until_us})


def running_down(connection: sa.Connection, at_most: int) -> Sequence[sa.Row[Any, Any, Any, Any]]:
    """(id, state, lease_us, lease_until) of holds whose lease can end, those first that end first."""
    return connection.execute(_RUNNING_DOWN, {"at_most": at_most}).all()
