"""Lanes and turns in the database. The only place of the package with SQL.

Whoever changes a lane holds its stack's row in `slots` first (every function here that writes sees to it, or says that
the caller has it), so that a lane is always as the slot and the stack's lock were when they last changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import sqlalchemy as sa

from control_plane import clock
from control_plane.queue.order import Contender
from control_plane.storage.tables import lanes, runs, slots, stacks, turns

_OPEN: Final = sa.and_(lanes.c.open_since.is_not(None), lanes.c.pending > sa.literal_column("0"))

# Nobody else changes the lanes of the stack before the transaction ends.
_HOLD_SLOT = sa.select(slots.c.stack_id).where(slots.c.stack_id == sa.bindparam("of_stack")).with_for_update()
# `pending` moves by differences, so that a run which is queued while another is claimed is never forgotten.
_COUNT_AT_SLOT = (
    sa.update(slots)
    .where(slots.c.stack_id == sa.bindparam("of_stack"))
    .values(pending=slots.c.pending + sa.bindparam("difference"))
)
# Since when the slot is free for a caller: not while it is taken, or the stack locked by somebody else.
_FREE_SINCE = sa.case(
    (
        sa.and_(
            slots.c.holder_run_id.is_(None),
            sa.or_(stacks.c.lock_owner_id.is_(None), stacks.c.lock_owner_id == lanes.c.creator_id),
        ),
        slots.c.ready_at,
    )
)
_OF_STACK = sa.and_(
    slots.c.stack_id == lanes.c.stack_id,
    stacks.c.id == lanes.c.stack_id,
)
_SETTLED: Final = {
    "open_since": sa.select(_FREE_SINCE).where(_OF_STACK).correlate(lanes).scalar_subquery(),
    "pool_id": sa.select(stacks.c.pool_id).where(stacks.c.id == lanes.c.stack_id).scalar_subquery(),
}
_SETTLE = (
    sa.update(lanes)
    .where(lanes.c.stack_id == sa.bindparam("of_stack"), lanes.c.pending > sa.literal_column("0"))
    .values(**_SETTLED)
)
_JOIN = (
    sa.update(lanes)
    .where(lanes.c.stack_id == sa.bindparam("of_stack"), lanes.c.creator_id == sa.bindparam("of_creator"))
    .values(
        pending=lanes.c.pending + 1,
        line=sa.bindparam("new_line"),
        waits_since=sa.case((lanes.c.pending > 0, lanes.c.waits_since), else_=sa.bindparam("now")),
        **_SETTLED,
    )
)
_BEGIN = sa.insert(lanes)
_BEGIN_SETTLED = (
    sa.update(lanes)
    .where(lanes.c.stack_id == sa.bindparam("of_stack"), lanes.c.creator_id == sa.bindparam("of_creator"))
    .values(**_SETTLED)
)
_LEAVE = (
    sa.update(lanes)
    .where(lanes.c.stack_id == sa.bindparam("of_stack"), lanes.c.creator_id == sa.bindparam("of_creator"))
    .values(pending=lanes.c.pending - 1)
)
# The slot is taken for a run: its lane gave it, and all lanes of the stack are closed.
_IS_CREATORS = (
    lanes.c.creator_id
    == sa.select(runs.c.creator_id).where(runs.c.id == sa.bindparam("run")).scalar_subquery()
)
_TAKEN = (
    sa.update(lanes)
    .where(lanes.c.stack_id == sa.bindparam("of_stack"), lanes.c.pending > sa.literal_column("0"))
    .values(
        open_since=None,
        pending=lanes.c.pending - sa.case((_IS_CREATORS, 1), else_=0),
        served_at=sa.case((_IS_CREATORS, sa.bindparam("now")), else_=lanes.c.served_at),
        waits_since=sa.case((_IS_CREATORS, sa.bindparam("now")), else_=lanes.c.waits_since),
    )
)
_FIRST_AGAIN = (
    sa.update(lanes)
    .where(lanes.c.stack_id == sa.bindparam("of_stack"), lanes.c.creator_id == sa.bindparam("of_creator"))
    # Before all who never had it.
    .values(served_at=-1, waits_since=-1)
)
_MOVE_LINE = (
    sa.update(lanes)
    .where(lanes.c.stack_id == sa.bindparam("of_stack"))
    .values(line=lanes.c.caller_login + sa.bindparam("labels_of_line"))
)


def _lines() -> sa.Select[Any]:
    """Every line of a pool with an open lane: each is found from the one before by one look into the index."""
    first = sa.select(sa.func.min(lanes.c.line).label("line")).where(
        lanes.c.pool_id == sa.bindparam("pool"), _OPEN
    )
    found = first.cte("found", recursive=True)
    after = sa.select(sa.func.min(lanes.c.line)).where(
        lanes.c.pool_id == sa.bindparam("pool"), _OPEN, lanes.c.line > found.c.line
    )
    found = found.union_all(
        sa.select(after.correlate(found).scalar_subquery()).where(found.c.line.is_not(None))
    )
    return sa.select(found.c.line).where(found.c.line.is_not(None))


_LINES = _lines()
# The open lanes of a line, the longest open first, behind a place in that order.
_STACKS_OF_LINE = (
    sa.select(lanes.c.open_since, lanes.c.stack_id)
    .where(
        lanes.c.pool_id == sa.bindparam("pool"),
        lanes.c.line == sa.bindparam("of_line"),
        _OPEN,
        sa.tuple_(lanes.c.open_since, lanes.c.stack_id)
        > sa.tuple_(sa.bindparam("after"), sa.bindparam("after_stack")),
    )
    .order_by(lanes.c.open_since, lanes.c.stack_id)
    .limit(sa.bindparam("at_most"))
)
_TURNS = sa.select(turns.c.caller_login, turns.c.served_at).where(
    turns.c.pool_id == sa.bindparam("pool"),
    turns.c.caller_login.in_(sa.bindparam("logins", expanding=True)),
)
_SERVED = (
    sa.update(turns)
    .where(turns.c.pool_id == sa.bindparam("of_pool"), turns.c.caller_login == sa.bindparam("of_login"))
    .values(served_at=sa.bindparam("now"))
)
_FIRST_SERVED = sa.insert(turns)
_CONTENDERS = (
    sa.select(
        lanes.c.creator_id,
        lanes.c.caller_login,
        lanes.c.pending,
        lanes.c.served_at,
        lanes.c.waits_since,
        sa.func.coalesce(turns.c.served_at, 0).label("turn_at"),
        sa.select(sa.func.min(runs.c.id))
        .where(
            runs.c.stack_id == lanes.c.stack_id,
            runs.c.creator_id == lanes.c.creator_id,
            runs.c.state == sa.literal_column("'QUEUED'"),
        )
        .scalar_subquery()
        .label("run_id"),
        sa.select(sa.func.min(runs.c.id))
        .where(
            runs.c.stack_id == lanes.c.stack_id,
            runs.c.creator_id == lanes.c.creator_id,
            runs.c.type == sa.literal_column("'HOLD'"),
            runs.c.state == sa.literal_column("'QUEUED'"),
        )
        .scalar_subquery()
        .label("hold_id"),
    )
    .select_from(
        slots.join(lanes, lanes.c.stack_id == slots.c.stack_id).outerjoin(
            turns, sa.and_(turns.c.pool_id == lanes.c.pool_id, turns.c.caller_login == lanes.c.caller_login)
        )
    )
    .where(slots.c.stack_id == sa.bindparam("stack"), lanes.c.pending > sa.literal_column("0"))
)
_ABLE = _CONTENDERS.where(slots.c.holder_run_id.is_(None), lanes.c.open_since.is_not(None))
# Of several schedulers, each looks at stacks that no other is at.
_CLAIMABLE = _ABLE.with_for_update(of=slots, skip_locked=True)


def line_of(caller_login: str, limited_labels: Iterable[str]) -> str:
    """The line of a caller's lane on a stack with these labels that have a limit."""
    return "\n".join([caller_login, *sorted(set(limited_labels))])


def split_line(line: str) -> tuple[str, list[str]]:
    """The caller's login, and the labels that have a limit."""
    login, *labels = line.split("\n")
    return login, labels


def join(
    connection: sa.Connection,
    stack_id: str,
    creator_id: str,
    caller_login: str,
    limited_labels: Iterable[str],
) -> None:
    """One more run of this caller is queued on the stack."""
    line = line_of(caller_login, limited_labels)
    connection.execute(_COUNT_AT_SLOT, {"of_stack": stack_id, "difference": 1})
    lane, now = {"of_stack": stack_id, "of_creator": creator_id}, clock.now_us()
    if connection.execute(_JOIN, {**lane, "new_line": line, "now": now}).rowcount == 0:
        values = {"stack_id": stack_id, "creator_id": creator_id, "caller_login": caller_login}
        connection.execute(_BEGIN, {**values, "pool_id": "", "line": line, "pending": 1, "waits_since": now})
        connection.execute(_BEGIN_SETTLED, lane)


def leave(connection: sa.Connection, stack_id: str, creator_id: str) -> None:
    """A queued run of this caller was taken out of the queue."""
    connection.execute(_COUNT_AT_SLOT, {"of_stack": stack_id, "difference": -1})
    connection.execute(_LEAVE, {"of_stack": stack_id, "of_creator": creator_id})


def taken(connection: sa.Connection, run_of_stack: Mapping[str, str], now_us: int) -> None:
    """This transaction has taken the slots of these stacks, each for a queued run, and holds the rows."""
    connection.execute(
        _TAKEN,
        [{"of_stack": stack_id, "run": run_id, "now": now_us} for stack_id, run_id in run_of_stack.items()],
    )


def freed(connection: sa.Connection, stack_id: str) -> None:
    """This transaction has freed the slot, and holds the row."""
    connection.execute(_SETTLE, {"of_stack": stack_id})


def first_again(connection: sa.Connection, stack_id: str, creator_id: str) -> None:
    """The caller's run came back without having run: it has not had its turn."""
    connection.execute(_FIRST_AGAIN, {"of_stack": stack_id, "of_creator": creator_id})


def stack_changed(connection: sa.Connection, stack_id: str) -> None:
    """The stack was locked, unlocked or given another pool in this transaction."""
    connection.execute(_HOLD_SLOT, {"of_stack": stack_id})
    connection.execute(_SETTLE, {"of_stack": stack_id})


def relabel(connection: sa.Connection, stack_id: str, limited_labels: Iterable[str]) -> None:
    """Puts the lanes of a stack into the lines where they belong."""
    connection.execute(_HOLD_SLOT, {"of_stack": stack_id})
    connection.execute(_MOVE_LINE, {"of_stack": stack_id, "labels_of_line": line_of("", limited_labels)})


def served(connection: sa.Connection, pool_id: str, caller_login: str, now_us: int) -> None:
    """A run of the caller was given a runner of the pool."""
    turn = {"of_pool": pool_id, "of_login": caller_login, "now": now_us}
    if connection.execute(_SERVED, turn).rowcount == 0:
        connection.execute(
            _FIRST_SERVED, {"pool_id": pool_id, "caller_login": caller_login, "served_at": now_us}
        )


def open_lines(connection: sa.Connection, pool_id: str) -> list[str]:
    """Lines of a pool in which some lane could be given its slot."""
    return list(connection.execute(_LINES, {"pool": pool_id}).scalars())


def turns_of(connection: sa.Connection, pool_id: str, logins: Collection[str]) -> dict[str, int]:
    """When each was last given a runner of the pool; those that never were are left out."""
    found = connection.execute(_TURNS, {"pool": pool_id, "logins": list(logins)})
    return {row.caller_login: row.served_at for row in found}


def stacks_of_line(
    connection: sa.Connection, pool_id: str, line: str, page_size: int
) -> Iterator[tuple[int, str]]:
    """(open since, stack id), the longest open first; read as far as they are asked for."""
    after: tuple[int, str] = (-1, "")
    while True:
        place = {"pool": pool_id, "of_line": line, "after": after[0], "after_stack": after[1]}
        rows = connection.execute(_STACKS_OF_LINE, {**place, "at_most": page_size}).all()
        for open_since, stack_id in rows:
            after = open_since, stack_id
            yield after
        if len(rows) < page_size:
            return


def claimable(connection: sa.Connection, stack_id: str) -> list[Contender]:
    """Who could be given the slot of this stack now. Until the end of the transaction nobody else can take it; empty
    where somebody is about to."""
    return _contenders(connection.execute(_CLAIMABLE, {"stack": stack_id}))


def able(connection: sa.Connection, stack_id: str) -> list[Contender]:
    """As `claimable`, only to look: somebody else may take it."""
    return _contenders(connection.execute(_ABLE, {"stack": stack_id}))


def contenders(connection: sa.Connection, stack_id: str) -> list[Contender]:
    """Everybody who waits for the slot of this stack, whatever else they wait for."""
    return _contenders(connection.execute(_CONTENDERS, {"stack": stack_id}))


def _contenders(rows: Iterable[sa.Row[Any]]) -> list[Contender]:
    return [
        Contender(
            creator_id=row.creator_id,
            caller_login=row.caller_login,
            pending=row.pending,
            served_at=row.served_at,
            turn_at=row.turn_at,
            waits_since=row.waits_since,
            run_id=row.run_id,
            is_hold=row.run_id == row.hold_id,
        )
        for row in rows
        if row.run_id is not None
    ]
