"""Pools, tokens and runners in the database. The only place of the package with SQL."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from control_plane.pools.pool import PUBLIC_POOL_ID, KnownRunner, Pool, PoolToken
from control_plane.storage.tables import pool_tokens, pools, runners, runs, stacks
from interlock.v1.pool_pb2 import ContainerOptions

_FIND_POOL = sa.select(pools).where(pools.c.id == sa.bindparam("of_pool"))
# Who means to delete a pool holds it, so that no stack and no token comes to it meanwhile.
_HOLD_POOL = _FIND_POOL.with_for_update()
_PAGE_OF_POOLS = (
    sa.select(pools)
    .where(pools.c.id > sa.bindparam("after"))
    .order_by(pools.c.id)
    .limit(sa.bindparam("limit"))
)
_INSERT_POOL = sa.insert(pools)
_UPDATE_POOL = (
    sa.update(pools)
    .where(pools.c.id == sa.bindparam("of_pool"))
    .values(
        name=sa.bindparam("new_name"),
        labels=sa.bindparam("new_labels"),
        container=sa.bindparam("new_container"),
    )
)
_DELETE_POOL = sa.delete(pools).where(pools.c.id == sa.bindparam("of_pool"))
# What keeps a pool from being deleted: stacks that name it, and runs that were made for it and are not over.
_STACKS_OF_POOL = (
    sa.select(stacks.c.id)
    .where(stacks.c.pool_id == sa.bindparam("of_pool"), stacks.c.deleted_at.is_(None))
    .order_by(stacks.c.id)
    .limit(sa.bindparam("limit"))
)
_OPEN_RUNS_OF_POOL = (
    sa.select(runs.c.id)
    .where(runs.c.pool_id == sa.bindparam("of_pool"), runs.c.finished_at.is_(None))
    .order_by(runs.c.id)
    .limit(sa.bindparam("limit"))
)
# A deleted stack keeps its row, which must name a pool that exists.
_RELEASE_DELETED_STACKS = (
    sa.update(stacks)
    .where(stacks.c.pool_id == sa.bindparam("of_pool"), stacks.c.deleted_at.is_not(None))
    .values(pool_id=PUBLIC_POOL_ID)
)
_DELETE_TOKENS = sa.delete(pool_tokens).where(pool_tokens.c.pool_id == sa.bindparam("of_pool"))
_DELETE_RUNNERS = sa.delete(runners).where(runners.c.pool_id == sa.bindparam("of_pool"))

_TOKEN_COLUMNS = [column for column in pool_tokens.c if column is not pool_tokens.c.secret_hash]
_FIND_TOKEN = sa.select(*_TOKEN_COLUMNS).where(pool_tokens.c.id == sa.bindparam("token_id"))
# The hash is read to admit a runner, and for nothing else.
_FIND_TOKEN_HASH = sa.select(pool_tokens.c.secret_hash).where(pool_tokens.c.id == sa.bindparam("token_id"))
_INSERT_TOKEN = sa.insert(pool_tokens)
_PAGE_OF_TOKENS = (
    sa.select(*_TOKEN_COLUMNS)
    .where(pool_tokens.c.pool_id == sa.bindparam("of_pool"), pool_tokens.c.id < sa.bindparam("before"))
    .order_by(pool_tokens.c.id.desc())
    .limit(sa.bindparam("limit"))
)
# A token is revoked once; the first moment stays.
_REVOKE_TOKEN = (
    sa.update(pool_tokens)
    .where(pool_tokens.c.id == sa.bindparam("token_id"), pool_tokens.c.revoked_at.is_(None))
    .values(revoked_at=sa.bindparam("at"))
)
_NOTE_USE_OF_TOKEN = (
    sa.update(pool_tokens)
    .where(pool_tokens.c.id == sa.bindparam("token_id"))
    .values(last_used_at=sa.bindparam("at"))
)

_FIND_RUNNER = sa.select(runners).where(runners.c.id == sa.bindparam("runner_id"))
_INSERT_RUNNER = sa.insert(runners)
_UPDATE_RUNNER = (
    sa.update(runners)
    .where(runners.c.id == sa.bindparam("runner_id"))
    .values(
        name=sa.bindparam("new_name"),
        version=sa.bindparam("new_version"),
        capacity=sa.bindparam("new_capacity"),
        boot_id=sa.bindparam("new_boot_id"),
        machine_id=sa.bindparam("new_machine_id"),
        connected_at=sa.bindparam("at"),
        last_seen_at=sa.bindparam("at"),
    )
)
_SEE_RUNNERS = (
    sa.update(runners)
    .where(runners.c.id.in_(sa.bindparam("seen", expanding=True)))
    .values(last_seen_at=sa.bindparam("at"))
)
_ACTIVE_RUNS_OF = (
    sa.select(runs.c.runner_id, runs.c.id)
    .where(
        runs.c.runner_id.in_(sa.bindparam("runner_ids", expanding=True)),
        runs.c.finished_at.is_(None),
    )
    .order_by(runs.c.id)
)
# Sorts after every id, under any collation: the cursor of the first page.
_END = "z"


def find_pool(connection: sa.Connection, pool_id: str, *, hold: bool = False) -> Pool | None:
    """`hold`: nobody else changes it, or makes a stack or token of it, until the transaction ends."""
    row = connection.execute(_HOLD_POOL if hold else _FIND_POOL, {"of_pool": pool_id}).one_or_none()
    return None if row is None else _pool(row)


def page_of_pools(connection: sa.Connection, *, after: str, limit: int) -> list[Pool]:
    return [_pool(row) for row in connection.execute(_PAGE_OF_POOLS, {"after": after, "limit": limit})]


def insert_pool(connection: sa.Connection, pool: Pool) -> None:
    connection.execute(
        _INSERT_POOL,
        {
            "id": pool.id,
            "name": pool.name,
            "public": pool.public,
            "labels": list(pool.labels),
            "container": pool.container.SerializeToString(deterministic=True),
            "created_at": pool.created_at,
        },
    )


def update_pool(connection: sa.Connection, pool: Pool) -> None:
    connection.execute(
        _UPDATE_POOL,
        {
            "of_pool": pool.id,
            "new_name": pool.name,
            "new_labels": list(pool.labels),
            "new_container": pool.container.SerializeToString(deterministic=True),
        },
    )


def stacks_of_pool(connection: sa.Connection, pool_id: str, limit: int) -> list[str]:
    return list(connection.execute(_STACKS_OF_POOL, {"of_pool": pool_id, "limit": limit}).scalars())


def open_runs_of_pool(connection: sa.Connection, pool_id: str, limit: int) -> list[str]:
    return list(connection.execute(_OPEN_RUNS_OF_POOL, {"of_pool": pool_id, "limit": limit}).scalars())


def delete_pool(connection: sa.Connection, pool_id: str) -> None:
    """With its tokens and the memory of its runners."""
    for statement in (_RELEASE_DELETED_STACKS, _DELETE_TOKENS, _DELETE_RUNNERS, _DELETE_POOL):
        connection.execute(statement, {"of_pool": pool_id})


def find_token(connection: sa.Connection, token_id: str) -> PoolToken | None:
    row = connection.execute(_FIND_TOKEN, {"token_id": token_id}).one_or_none()
    return None if row is None else _token(row)


def find_token_with_hash(connection: sa.Connection, token_id: str) -> tuple[PoolToken, bytes] | None:
    token = find_token(connection, token_id)
    if token is None:
        return None
    return token, connection.execute(_FIND_TOKEN_HASH, {"token_id": token_id}).scalar_one()


def insert_token(connection: sa.Connection, token: PoolToken, secret_hash: bytes) -> None:
    connection.execute(
        _INSERT_TOKEN,
        {
            "id": token.id,
            "pool_id": token.pool_id,
            "name": token.name,
            "secret_hash": secret_hash,
            "created_at": token.created_at,
        },
    )


def page_of_tokens(connection: sa.Connection, pool_id: str, *, before: str, limit: int) -> list[PoolToken]:
    """Newest first, from the one after id `before` on ("" for the newest)."""
    parameters = {"of_pool": pool_id, "before": before or _END, "limit": limit}
    return [_token(row) for row in connection.execute(_PAGE_OF_TOKENS, parameters)]


def revoke_token(connection: sa.Connection, token_id: str, at_us: int) -> None:
    connection.execute(_REVOKE_TOKEN, {"token_id": token_id, "at": at_us})


def note_use_of_token(connection: sa.Connection, token_id: str, at_us: int) -> None:
    connection.execute(_NOTE_USE_OF_TOKEN, {"token_id": token_id, "at": at_us})


def find_runner(connection: sa.Connection, runner_id: str) -> KnownRunner | None:
    row = connection.execute(_FIND_RUNNER, {"runner_id": runner_id}).one_or_none()
    return None if row is None else _runner(row)


def insert_runner(connection: sa.Connection, runner: KnownRunner) -> None:
    connection.execute(
        _INSERT_RUNNER,
        {
            "id": runner.id,
            "pool_id": runner.pool_id,
            "name": runner.name,
            "version": runner.version,
            "capacity": runner.capacity,
            "boot_id": runner.boot_id,
            "machine_id": runner.machine_id,
            "connected_at": runner.connected_at,
            "last_seen_at": runner.last_seen_at,
        },
    )


def update_runner(connection: sa.Connection, runner: KnownRunner) -> None:
    connection.execute(
        _UPDATE_RUNNER,
        {
            "runner_id": runner.id,
            "new_name": runner.name,
            "new_version": runner.version,
            "new_capacity": runner.capacity,
            "new_boot_id": runner.boot_id,
            "new_machine_id": runner.machine_id,
            "at": runner.connected_at,
        },
    )


def see_runners(connection: sa.Connection, runner_ids: Collection[str], at_us: int) -> None:
    connection.execute(_SEE_RUNNERS, {"seen": list(runner_ids), "at": at_us})


def page_of_runners(
    connection: sa.Connection,
    *,
    pool_id: str,
    after: tuple[str, str] | None,
    limit: int,
    seen_since: int,
    connected: Collection[str],
) -> list[KnownRunner]:
    """By name, then id: those that are connected and those that were seen since then; `pool_id` "" for all pools."""
    columns = runners.c
    statement = (
        sa.select(runners)
        .where(sa.or_(columns.last_seen_at >= seen_since, columns.id.in_(connected)))
        .order_by(columns.name, columns.id)
        .limit(limit)
    )
    if pool_id:
        statement = statement.where(columns.pool_id == pool_id)
    if after is not None:
        name, runner_id = after
        statement = statement.where(
            sa.or_(columns.name > name, sa.and_(columns.name == name, columns.id > runner_id))
        )
    return [_runner(row) for row in connection.execute(statement)]


def active_runs_of(connection: sa.Connection, runner_ids: Collection[str]) -> dict[str, list[str]]:
    """By runner, the ids of its active runs."""
    found: dict[str, list[str]] = {}
    if runner_ids:
        for row in connection.execute(_ACTIVE_RUNS_OF, {"runner_ids": list(runner_ids)}):
            found.setdefault(row.runner_id, []).append(row.id)
    return found


def _pool(row: sa.Row[Any]) -> Pool:
    return Pool(
        id=row.id,
        name=row.name,
        public=row.public,
        labels=tuple(row.labels),
        container=ContainerOptions.FromString(row.container),
        created_at=row.created_at,
    )


def _token(row: sa.Row[Any]) -> PoolToken:
    return PoolToken(
        id=row.id,
        pool_id=row.pool_id,
        name=row.name,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


def _runner(row: sa.Row[Any]) -> KnownRunner:
    return KnownRunner(
        id=row.id,
        pool_id=row.pool_id,
        name=row.name,
        version=row.version,
        capacity=row.capacity,
        boot_id=row.boot_id,
        machine_id=row.machine_id,
        connected_at=row.connected_at,
        last_seen_at=row.last_seen_at,
    )
