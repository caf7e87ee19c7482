"""Holds in the database: their leases, and whose turn it is. What they share with other runs is in `store`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import sqlalchemy as sa

from control_plane.storage.tables import runs, slots, stacks

_earlier = runs.alias("earlier")
# Holds whose turn it is: the slot is free, the lock is not another's, and nobody who may start came before.
_NEXT = (
    sa.select(runs.c.id)
    .join(slots, slots.c.stack_id == runs.c.stack_id)
    .join(stacks, stacks.c.id == runs.c.stack_id)
    .where(
        runs.c.id.in_(sa.bindparam("run_ids", expanding=True)),
        runs.c.type == sa.literal_column("'HOLD'"),
        runs.c.state == sa.literal_column("'QUEUED'"),
        slots.c.holder_run_id.is_(None),
        sa.or_(stacks.c.lock_owner_id.is_(None), stacks.c.lock_owner_id == runs.c.creator_id),
        ~sa.exists(
            sa.select(_earlier.c.id).where(
                _earlier.c.stack_id == runs.c.stack_id,
                _earlier.c.state == sa.literal_column("'QUEUED'"),
                _earlier.c.id < runs.c.id,
                sa.or_(stacks.c.lock_owner_id.is_(None), stacks.c.lock_owner_id == _earlier.c.creator_id),
            )
        ),
    )
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
    """Those of these runs that are holds whose turn it is."""
    return list(connection.execute(_NEXT, {"run_ids": sorted(run_ids)}).scalars()) if run_ids else []


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
