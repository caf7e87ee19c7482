"""Runs in the database: their rows, the queue and the slot. The only place of the package with SQL."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from control_plane import clock
from control_plane.limits import labels as limit_labels
from control_plane.queue import lanes
from control_plane.runs import states
from control_plane.runs.states import RunState
from control_plane.storage.tables import run_changes, runs, slots, stacks

_ACTIVE = [state.value for state in sorted(states.ACTIVE)]

_FIND = sa.select(runs).where(runs.c.id == sa.bindparam("run_id"))
# Who means to move a run reads it like this first (SQLite: the whole transaction is exclusive already).
_FIND_TO_MOVE = _FIND.with_for_update()
# Schedulers pass over what another one is at, and wait for nobody.
_FIND_TO_CLAIM = _FIND.with_for_update(skip_locked=True)
_INSERT = sa.insert(runs).returning(*runs.c)
_INSERT_CHANGE = sa.insert(run_changes).returning(
    run_changes.c.state, run_changes.c.changed_at, run_changes.c.reason
)
# Where nobody needs the row: to read it back costs as much as to write it.
_NOTE_CHANGE = sa.insert(run_changes).inline()
_HISTORY = (
    sa.select(run_changes.c.state, run_changes.c.changed_at, run_changes.c.reason)
    .where(run_changes.c.run_id == sa.bindparam("run_id"))
    .order_by(run_changes.c.id)
)

# Invariants 2 and 3: only the current assignment of a run in the expected state can move it.
_MOVE = (
    sa.update(runs)
    .where(
        runs.c.id == sa.bindparam("of_run"),
        runs.c.state == sa.bindparam("before"),
        runs.c.fence == sa.bindparam("of_fence"),
    )
    .values(state=sa.bindparam("after"), updated_at=sa.bindparam("now"), state_reason=sa.bindparam("because"))
)

# Invariant 3: the slot is freed for the fencing token it was taken with, or not at all.
_FREE_SLOT = (
    sa.update(slots)
    .where(
        slots.c.stack_id == sa.bindparam("of_stack"),
        slots.c.holder_run_id == sa.bindparam("of_run"),
        slots.c.fence == sa.bindparam("of_fence"),
    )
    .values(holder_run_id=None, ready_at=sa.bindparam("now"))
)

# Whoever still shows the token of an abandoned run is too late from this moment on, not only from the next run's.
_BUMP_FENCE = (
    sa.update(slots).where(slots.c.stack_id == sa.bindparam("of_stack")).values(fence=slots.c.fence + 1)
)

# Invariant 1: taking the slot and bumping its fencing token is one statement that hits a free slot or nothing.
_TAKE_SLOT = (
    sa.update(slots)
    .where(slots.c.stack_id == sa.bindparam("of_stack"), slots.c.holder_run_id.is_(None))
    .values(holder_run_id=sa.bindparam("run"), fence=slots.c.fence + 1, pending=slots.c.pending - 1)
    .returning(slots.c.fence)
)
_UPDATE = sa.update(runs).where(runs.c.id == sa.bindparam("of_run"))

# Confirmed plans that no runner has been given, those first that were confirmed first.
_TO_APPLY: sa.Select[Any] = (
    sa.select(runs.c.id, stacks.c.pool_id, runs.c.updated_at, runs.c.creator_login, stacks.c.labels)
    .join(stacks, stacks.c.id == runs.c.stack_id)
    .where(
        runs.c.state == sa.literal_column("'CONFIRMED'"),
        runs.c.assignment_id == sa.literal_column("''"),
        # No index finds it, so that SQLite begins with the few confirmed runs and not with all stacks of the pools.
        sa.func.coalesce(stacks.c.pool_id, sa.literal_column("''")).in_(
            sa.bindparam("pool_ids", expanding=True)
        ),
        sa.tuple_(runs.c.updated_at, runs.c.id) > sa.tuple_(sa.bindparam("after"), sa.bindparam("after_id")),
    )
    .order_by(runs.c.updated_at, runs.c.id)
    .limit(sa.bindparam("at_most"))
)
# Invariant 3: each attempt to apply has a token of its own; whoever had an older one is fenced out.
_HOLD_ON = (
    sa.update(slots)
    .where(
        slots.c.stack_id == sa.bindparam("of_stack"),
        slots.c.holder_run_id == sa.bindparam("of_run"),
        slots.c.fence == sa.bindparam("of_fence"),
    )
    .values(fence=slots.c.fence + 1)
    .returning(slots.c.fence)
)

_OF_RUNNER = sa.select(runs).where(runs.c.runner_id == sa.bindparam("runner_id"), runs.c.state.in_(_ACTIVE))
_HOLD_OF_RUNNER = _OF_RUNNER.order_by(runs.c.id).with_for_update()
_ALL_ACTIVE = sa.select(runs).where(runs.c.state.in_(_ACTIVE)).order_by(runs.c.id)
_QUEUED_BEFORE = sa.select(sa.func.count()).where(
    runs.c.stack_id == sa.bindparam("stack_id"),
    runs.c.creator_id == sa.bindparam("creator_id"),
    runs.c.state == sa.literal_column("'QUEUED'"),
    runs.c.id < sa.bindparam("run_id"),
)
# The states are spelled out, or the index is not seen to fit.
_MAY_TIME_OUT = (
    sa.select(runs.c.id, runs.c.queue_deadline)
    .where(
        runs.c.queue_deadline.is_not(None),
        runs.c.state.in_([sa.literal_column("'QUEUED'"), sa.literal_column("'PENDING_REVIEW'")]),
    )
    .order_by(runs.c.queue_deadline, runs.c.id)
    .limit(sa.bindparam("at_most"))
)
# How long the last runs of a stack had its slot.
_SLOT_TIMES = (
    sa.select(runs.c.finished_at - runs.c.slot_taken_at)
    .where(
        runs.c.stack_id == sa.bindparam("stack_id"),
        runs.c.slot_taken_at.is_not(None),
        runs.c.finished_at.is_not(None),
    )
    .order_by(runs.c.finished_at.desc())
    .limit(10)
)
_SLOT: sa.Select[Any] = (
    sa.select(
        slots.c.holder_run_id,
        slots.c.fence,
        slots.c.pending,
        runs.c.type.label("holder_type"),
        runs.c.state.label("holder_state"),
        runs.c.creator_login.label("holder_login"),
        runs.c.purpose.label("holder_purpose"),
        runs.c.lease_until.label("holder_lease_until"),
        runs.c.slot_taken_at,
        runs.c.unreachable_since,
    )
    .outerjoin(runs, runs.c.id == slots.c.holder_run_id)
    .where(slots.c.stack_id == sa.bindparam("stack_id"))
)
_LABELS = sa.select(stacks.c.labels).where(stacks.c.id == sa.bindparam("stack_id"))
_LOCK = sa.select(stacks.c.lock_owner_id, stacks.c.lock_owner, stacks.c.pool_id).where(
    stacks.c.id == sa.bindparam("stack_id")
)


def find(connection: sa.Connection, run_id: str) -> sa.Row[Any] | None:
    return connection.execute(_FIND, {"run_id": run_id}).one_or_none()


def find_to_move(connection: sa.Connection, run_id: str) -> sa.Row[Any] | None:
    """As `find`; nobody else can move the run before this transaction ends."""
    return connection.execute(_FIND_TO_MOVE, {"run_id": run_id}).one_or_none()


def find_to_claim(connection: sa.Connection, run_id: str) -> sa.Row[Any] | None:
    """As `find_to_move`, but None where somebody else holds the run."""
    return connection.execute(_FIND_TO_CLAIM, {"run_id": run_id}).one_or_none()


def history(connection: sa.Connection, run_id: str) -> Sequence[sa.Row[Any, Any, Any]]:
    """(state, changed_at, reason), oldest first."""
    return connection.execute(_HISTORY, {"run_id": run_id}).all()


def insert_queued(
    connection: sa.Connection, values: Mapping[str, object], reason: str
) -> tuple[sa.Row[Any], sa.Row[Any, Any, Any]]:
    """Adds a run in QUEUED and counts it at its stack's slot. Returns its row and the first entry of its history."""
    _join(connection, str(values["stack_id"]), str(values["creator_id"]), str(values["creator_login"]))
    return _insert(connection, values, RunState.QUEUED, reason)


def insert_pending_review(
    connection: sa.Connection, values: Mapping[str, object], reason: str
) -> tuple[sa.Row[Any], sa.Row[Any, Any, Any]]:
    """As `insert_queued`, in PENDING_REVIEW: it does not count at its stack's slot yet."""
    return _insert(connection, values, RunState.PENDING_REVIEW, reason)


def move(
    connection: sa.Connection,
    run: sa.Row[Any],
    after: RunState,
    reason: str,
    **also: object,
) -> bool:
    """Brings `run`, as it was read in this transaction, into another state; with `also`, sets more columns.

    False, and nothing changed, where another transaction moved it first.

    Raises:
        states.IllegalTransition: the table of states does not allow it.
    """
    states.check(RunState(run.state), after)
    moved = connection.execute(
        _setting(_MOVE, tuple(also)),
        {
            **_to(also),
            "of_run": run.id,
            "before": run.state,
            "of_fence": run.fence,
            "after": after.value,
            "now": clock.now_us(),
            "because": reason,
        },
    )
    if moved.rowcount != 1:
        return False
    connection.execute(_NOTE_CHANGE, _change(run.id, after, reason))
    return True


def move_all(
    connection: sa.Connection,
    moved: Sequence[tuple[sa.Row[Any], Mapping[str, object]]],
    after: RunState,
    reason: str,
) -> bool:
    """As `move`, for several runs, each with the values of the same columns; in two statements.

    False where another transaction moved any of them first: this one has to be rolled back.

    Raises:
        states.IllegalTransition: the table of states does not allow it for one of them.
    """
    if not moved:
        return True
    now_us = clock.now_us()
    rows = []
    for run, also in moved:
        states.check(RunState(run.state), after)
        change = {"before": run.state, "after": after.value, "now": now_us, "because": reason}
        rows.append({**_to(also), "of_run": run.id, "of_fence": run.fence, **change})
    if connection.execute(_setting(_MOVE, tuple(moved[0][1])), rows).rowcount != len(rows):
        return False
    connection.execute(_NOTE_CHANGE, [_change(run.id, after, reason) for run, _ in moved])
    return True


def leave_queue(connection: sa.Connection, run: sa.Row[Any]) -> None:
    """Counts one run less in its lane: it was discarded while queued."""
    lanes.leave(connection, run.stack_id, run.creator_id)


def join_queue(connection: sa.Connection, run: sa.Row[Any]) -> None:
    """Counts one run more in its lane: it is queued now."""
    _join(connection, run.stack_id, run.creator_id, run.creator_login)


def free_slot(connection: sa.Connection, run: sa.Row[Any]) -> bool:
    """Frees the slot that `run` holds. False where it does not hold it under this fencing token."""
    freed = connection.execute(
        _FREE_SLOT,
        {"of_stack": run.stack_id, "of_run": run.id, "of_fence": run.fence, "now": clock.now_us()},
    )
    if freed.rowcount != 1:
        return False
    lanes.freed(connection, run.stack_id)
    return True


def bump_fence(connection: sa.Connection, stack_id: str) -> None:
    """Makes every fencing token stale that was given out for this stack."""
    connection.execute(_BUMP_FENCE, {"of_stack": stack_id})


def take_slot(connection: sa.Connection, stack_id: str, run_id: str) -> int | None:
    """Takes the free slot of a stack for a run and returns the new fencing token; None where it is not free."""
    fence = take_slot_only(connection, stack_id, run_id)
    if fence is not None:
        lanes.taken(connection, {stack_id: run_id}, clock.now_us())
    return fence


def take_slot_only(connection: sa.Connection, stack_id: str, run_id: str) -> int | None:
    """As `take_slot`, for who takes several and tells `lanes.taken` of all before the transaction ends."""
    row = connection.execute(_TAKE_SLOT, {"of_stack": stack_id, "run": run_id}).one_or_none()
    return None if row is None else int(row.fence)


def to_apply(connection: sa.Connection, pool_ids: Sequence[str], page_size: int) -> Iterator[sa.Row[Any]]:
    """(id, pool_id, updated_at, creator_login, labels) of CONFIRMED runs that wait for a runner; read as far as they are
    asked for."""
    place: dict[str, object] = {"after": -1, "after_id": ""}
    while True:
        page = {"pool_ids": list(pool_ids), "at_most": page_size, **place}
        rows = connection.execute(_TO_APPLY, page).all()
        yield from rows
        if len(rows) < page_size:
            return
        place = {"after": rows[-1].updated_at, "after_id": rows[-1].id}


def hold_on(connection: sa.Connection, run: sa.Row[Any]) -> int | None:
    """Gives the slot that `run` holds a new fencing token; None where it does not hold it under its own."""
    held = {"of_stack": run.stack_id, "of_run": run.id, "of_fence": run.fence}
    row = connection.execute(_HOLD_ON, held).one_or_none()
    return None if row is None else int(row.fence)


def update(connection: sa.Connection, run_id: str, **columns: object) -> None:
    """Sets columns that are not the state."""
    connection.execute(_setting(_UPDATE, tuple(columns)), {**_to(columns), "of_run": run_id})


def active_of_runner(
    connection: sa.Connection, runner_id: str, *, hold: bool = False
) -> Sequence[sa.Row[Any]]:
    """`hold`: nobody else can move them before this transaction ends."""
    statement = _HOLD_OF_RUNNER if hold else _OF_RUNNER
    return connection.execute(statement, {"runner_id": runner_id}).all()


def all_active(connection: sa.Connection) -> Sequence[sa.Row[Any]]:
    return connection.execute(_ALL_ACTIVE).all()


def queued_before(connection: sa.Connection, run: sa.Row[Any]) -> int:
    """How many queued runs its creator has on the stack that were queued before it."""
    lane = {"stack_id": run.stack_id, "creator_id": run.creator_id}
    return int(connection.execute(_QUEUED_BEFORE, {**lane, "run_id": run.id}).scalar_one())


def may_time_out(connection: sa.Connection, at_most: int) -> Sequence[sa.Row[Any, Any]]:
    """(id, queue_deadline) of runs that wait and may not wait for ever, those first whose time is over first."""
    return connection.execute(_MAY_TIME_OUT, {"at_most": at_most}).all()


def slot_times(connection: sa.Connection, stack_id: str) -> list[int]:
    """For how many microseconds the last runs of a stack had its slot."""
    return list(connection.execute(_SLOT_TIMES, {"stack_id": stack_id}).scalars())


def slot(connection: sa.Connection, stack_id: str) -> sa.Row[Any]:
    """(holder_run_id, fence, pending), and of the holder: type, state, login, purpose, lease_until, slot_taken_at and
    unreachable_since."""
    return connection.execute(_SLOT, {"stack_id": stack_id}).one()


def labels(connection: sa.Connection, stack_id: str) -> Sequence[str]:
    """Of the stack, as they are now."""
    return list(connection.execute(_LABELS, {"stack_id": stack_id}).scalar_one())


def lock(connection: sa.Connection, stack_id: str) -> sa.Row[Any, Any, Any]:
    """(lock_owner_id, lock_owner, pool_id): the lock, and where its runs go."""
    return connection.execute(_LOCK, {"stack_id": stack_id}).one()


def list_page(
    connection: sa.Connection, filters: Sequence[sa.ColumnElement[bool]], before_id: str, at_most: int
) -> Sequence[sa.Row[Any]]:
    """Runs, newest first, older than `before_id` where that is not empty."""
    statement = sa.select(runs).where(*filters).order_by(runs.c.id.desc()).limit(at_most)
    if before_id:
        statement = statement.where(runs.c.id < before_id)
    return connection.execute(statement).all()


@functools.cache
def _setting(statement: sa.Update, columns: tuple[str, ...]) -> sa.Update:
    """The statement that sets these columns, too; its parameters are those of `_to`. Made once: making it and telling
    it from others costs more than executing it."""
    return statement.values({name: sa.bindparam(f"to_{name}", type_=runs.c[name].type) for name in columns})


def _to(columns: Mapping[str, object]) -> dict[str, object]:
    return {f"to_{name}": value for name, value in columns.items()}


def _join(connection: sa.Connection, stack_id: str, creator_id: str, creator_login: str) -> None:
    limited = limit_labels.limited_of_stack(connection, stack_id)
    lanes.join(connection, stack_id, creator_id, creator_login, limited)


def _insert(
    connection: sa.Connection, values: Mapping[str, object], state: RunState, reason: str
) -> tuple[sa.Row[Any], sa.Row[Any, Any, Any]]:
    run = connection.execute(_INSERT, {**values, "state": state.value, "state_reason": reason}).one()
    return run, add_change(connection, run.id, state, reason)


def add_change(connection: sa.Connection, run_id: str, state: RunState, reason: str) -> sa.Row[Any, Any, Any]:
    """Adds a step to a run's history."""
    return connection.execute(_INSERT_CHANGE, _change(run_id, state, reason)).one()


def _change(run_id: str, state: RunState, reason: str) -> dict[str, object]:
    return {"run_id": run_id, "state": state.value, "changed_at": clock.now_us(), "reason": reason}
