"""Holds in the database: their leases, and whose turn it is. What they share with other runs is in `store`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

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
_LEASED: Final = (
    runs.c.lease_until.is_not(None),
    runs.c.state.in_([sa.literal_column(f"'{state}'") for state in ("QUEUED", "READY", "HELD")]),
)
# Leases that are over, of holders who could have been heard for as long as they are given.
_OVER = (
    sa.select(runs.c.id)
    .where(
        *_LEASED,
        runs.c.lease_until <= sa.bindparam("now"),
        sa.case(
            (runs.c.state == sa.literal_column("'QUEUED'"), sa.bindparam("wait", type_=sa.BigInteger)),
            (runs.c.state == sa.literal_column("'READY'"), sa.bindparam("offer", type_=sa.BigInteger)),
            else_=runs.c.lease_us,
        )
        <= sa.bindparam("heard"),
    )
    .order_by(runs.c.lease_until)
    .limit(sa.bindparam("at_most"))
)
_NEXT_END = sa.select(sa.func.min(runs.c.lease_until)).where(
    *_LEASED, runs.c.lease_until > sa.bindparam("now")
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


def over(
    connection: sa.Connection, now_us: int, heard_us: int, *, wait_us: int, offer_us: int, at_most: int
) -> list[str]:
    """Holds whose lease is over. `heard_us`: for how long their holders could have been heard here; for `wait_us` they
    must have been where they wait, for `offer_us` where they are offered the slot, and else for their whole lease."""
    given = {"now": now_us, "heard": heard_us, "wait": wait_us, "offer": offer_us, "at_most": at_most}
    return list(connection.execute(_OVER, given).scalars())


def next_end(connection: sa.Connection, now_us: int) -> int | None:
    """When the next lease ends that has not ended yet."""
    end_us: int | None = connection.execute(_NEXT_END, {"now": now_us}).scalar_one()
    return end_us
