"""Stacks in the database: rows, locks, environment. The only place of the package with SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from control_plane.storage.tables import (
    counters,
    environment_variables,
    mounted_files,
    policy_attachments,
    pools,
    runs,
    slots,
    stacks,
)

# A stack with its pool, its slot and the run that holds it, in one statement: CreateTask reads it each time.
_SNAPSHOT = (
    sa.select(
        stacks,
        pools.c.name.label("pool_name"),
        pools.c.labels.label("pool_labels"),
        pools.c.public.label("pool_public"),
        slots.c.holder_run_id,
        slots.c.fence,
        slots.c.pending,
        runs.c.state.label("active_run_state"),
        runs.c.type.label("active_run_type"),
        runs.c.creator.label("active_run_owner"),
        runs.c.purpose.label("hold_purpose"),
        runs.c.lease_us.label("hold_lease_us"),
        runs.c.lease_until.label("hold_lease_until"),
        runs.c.release_on_expiry.label("hold_release_on_expiry"),
    )
    .join(pools, pools.c.id == stacks.c.pool_id)
    .join(slots, slots.c.stack_id == stacks.c.id)
    .outerjoin(runs, runs.c.id == slots.c.holder_run_id)
)
_FIND = _SNAPSHOT.where(stacks.c.id == sa.bindparam("stack_id"))
_FIND_MANY = _SNAPSHOT.where(stacks.c.id.in_(sa.bindparam("stack_ids", expanding=True)))
# Stacks that exist, by id, after a cursor.
_PAGE = (
    _SNAPSHOT.where(stacks.c.deleted_at.is_(None), stacks.c.id > sa.bindparam("after_id"))
    .order_by(stacks.c.id)
    .limit(sa.bindparam("at_most"))
)

# FOR SHARE, where the engine has it: whoever saw this version commits before anybody changes the stack.
_VERSION = (
    sa.select(stacks.c.version)
    .where(stacks.c.id == sa.bindparam("stack_id"), stacks.c.deleted_at.is_(None))
    .with_for_update(read=True)
)
# Holds the rows until the transaction ends; by id, so that two holders of several never wait in a circle.
_HOLD: sa.Select[Any] = (
    sa.select(
        stacks.c.id,
        stacks.c.version,
        stacks.c.source_kind,
        stacks.c.lock_owner_id,
        stacks.c.lock_owner,
        stacks.c.lock_note,
        stacks.c.locked_at,
    )
    .where(stacks.c.id.in_(sa.bindparam("stack_ids", expanding=True)), stacks.c.deleted_at.is_(None))
    .order_by(stacks.c.id)
    .with_for_update()
)
_ID_TAKEN = sa.select(stacks.c.deleted_at).where(stacks.c.id == sa.bindparam("stack_id"))
_POOL_EXISTS = sa.select(pools.c.id).where(pools.c.id == sa.bindparam("pool_id"))

_INSERT = sa.insert(stacks)
# Every stack has a slot from its first moment; taking one never has to make it.
_INSERT_SLOT = sa.insert(slots)
# Every change counts the version up: decisions and etags notice it.
_CHANGE = (
    sa.update(stacks)
    .where(stacks.c.id == sa.bindparam("of_stack"), stacks.c.deleted_at.is_(None))
    .values(version=stacks.c.version + 1)
)

# The oldest run that is not over.
_UNFINISHED_RUN: sa.Select[Any] = (
    sa.select(runs.c.id, runs.c.state)
    .where(
        runs.c.stack_id == sa.bindparam("stack_id"),
        runs.c.state.not_in(["FINISHED", "FAILED", "STOPPED", "DISCARDED"]),
    )
    .order_by(runs.c.id)
    .limit(1)
)
_DETACH_POLICIES = sa.delete(policy_attachments).where(
    policy_attachments.c.stack_id == sa.bindparam("of_stack")
)
# Attachments went away: whoever keeps them in memory reads them again.
_COUNT_POLICY_CHANGE = (
    sa.update(counters).where(counters.c.name == "policies").values(value=counters.c.value + 1)
)

_VARIABLES = (
    sa.select(environment_variables)
    .where(environment_variables.c.stack_id.in_(sa.bindparam("stack_ids", expanding=True)))
    .order_by(environment_variables.c.stack_id, environment_variables.c.name)
)
_FILES = (
    sa.select(mounted_files)
    .where(mounted_files.c.stack_id.in_(sa.bindparam("stack_ids", expanding=True)))
    .order_by(mounted_files.c.stack_id, mounted_files.c.path)
)
_INSERT_VARIABLE = sa.insert(environment_variables)
_INSERT_FILE = sa.insert(mounted_files)
_DELETE_VARIABLES = sa.delete(environment_variables).where(
    environment_variables.c.stack_id == sa.bindparam("of_stack"),
    environment_variables.c.name.in_(sa.bindparam("names", expanding=True)),
)
_DELETE_FILES = sa.delete(mounted_files).where(
    mounted_files.c.stack_id == sa.bindparam("of_stack"),
    mounted_files.c.path.in_(sa.bindparam("paths", expanding=True)),
)
# The secrets of a deleted stack go with it.
_CLEAR_VARIABLES = sa.delete(environment_variables).where(
    environment_variables.c.stack_id == sa.bindparam("of_stack")
)
_CLEAR_FILES = sa.delete(mounted_files).where(mounted_files.c.stack_id == sa.bindparam("of_stack"))


def find(connection: sa.Connection, stack_id: str) -> sa.Row[Any] | None:
    """The stack with its pool, slot and active run; deleted ones too."""
    return connection.execute(_FIND, {"stack_id": stack_id}).one_or_none()


def find_many(connection: sa.Connection, stack_ids: Sequence[str]) -> Sequence[sa.Row[Any]]:
    return connection.execute(_FIND_MANY, {"stack_ids": list(stack_ids)}).all()


def page(connection: sa.Connection, after_id: str, at_most: int) -> Sequence[sa.Row[Any]]:
    return connection.execute(_PAGE, {"after_id": after_id, "at_most": at_most}).all()


def version_of(connection: sa.Connection, stack_id: str) -> int | None:
    """None where there is no such stack, or not any more."""
    return connection.execute(_VERSION, {"stack_id": stack_id}).scalar_one_or_none()


def hold(connection: sa.Connection, stack_ids: Sequence[str]) -> Sequence[sa.Row[Any]]:
    """(id, version, source_kind, lock_owner_id, lock_owner, lock_note, locked_at), held until the end."""
    return connection.execute(_HOLD, {"stack_ids": list(stack_ids)}).all()


def was_ever(connection: sa.Connection, stack_id: str) -> tuple[bool, bool]:
    """Whether the id was ever given, and whether its stack was deleted since."""
    row = connection.execute(_ID_TAKEN, {"stack_id": stack_id}).one_or_none()
    return row is not None, row is not None and row.deleted_at is not None


def pool_exists(connection: sa.Connection, pool_id: str) -> bool:
    return connection.execute(_POOL_EXISTS, {"pool_id": pool_id}).one_or_none() is not None


def insert(connection: sa.Connection, values: Mapping[str, object]) -> None:
    connection.execute(_INSERT, dict(values))
    connection.execute(_INSERT_SLOT, {"stack_id": values["id"]})


def change(connection: sa.Connection, stack_id: str, **columns: object) -> bool:
    """Sets columns and counts the version up. False where there is no such stack."""
    return connection.execute(_CHANGE.values(**columns), {"of_stack": stack_id}).rowcount == 1


def unfinished_run(connection: sa.Connection, stack_id: str) -> sa.Row[Any] | None:
    """(id, state) of the oldest run that is not over."""
    return connection.execute(_UNFINISHED_RUN, {"stack_id": stack_id}).one_or_none()


def detach_policies(connection: sa.Connection, stack_id: str) -> None:
    if connection.execute(_DETACH_POLICIES, {"of_stack": stack_id}).rowcount:
        connection.execute(_COUNT_POLICY_CHANGE)


def clear_environment(connection: sa.Connection, stack_id: str) -> None:
    connection.execute(_CLEAR_VARIABLES, {"of_stack": stack_id})
    connection.execute(_CLEAR_FILES, {"of_stack": stack_id})


def variables(connection: sa.Connection, *stack_ids: str) -> Sequence[sa.Row[Any]]:
    """By stack and name."""
    return connection.execute(_VARIABLES, {"stack_ids": stack_ids}).all()


def files(connection: sa.Connection, *stack_ids: str) -> Sequence[sa.Row[Any]]:
    """By stack and path."""
    return connection.execute(_FILES, {"stack_ids": stack_ids}).all()


def put_variables(connection: sa.Connection, stack_id: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Adds or replaces, by name."""
    delete_variables(connection, stack_id, [str(row["name"]) for row in rows])
    if rows:
        connection.execute(_INSERT_VARIABLE, [{**row, "stack_id": stack_id} for row in rows])


def put_files(connection: sa.Connection, stack_id: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Adds or replaces, by path."""
    delete_files(connection, stack_id, [str(row["path"]) for row in rows])
    if rows:
        connection.execute(_INSERT_FILE, [{**row, "stack_id": stack_id} for row in rows])


def delete_variables(connection: sa.Connection, stack_id: str, names: Sequence[str]) -> None:
    connection.execute(_DELETE_VARIABLES, {"of_stack": stack_id, "names": list(names)})


def delete_files(connection: sa.Connection, stack_id: str, paths: Sequence[str]) -> None:
    connection.execute(_DELETE_FILES, {"of_stack": stack_id, "paths": list(paths)})
