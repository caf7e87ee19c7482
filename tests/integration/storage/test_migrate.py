"""Migrations, on SQLite files and PostgreSQL databases as a user has them."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from control_plane.storage import tables
from control_plane.storage.database import Database
from control_plane.storage.migrate import DatabaseTooNewError, migrate
from tests.databases import Databases

_SHAPE = sa.text("SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'index') AND sql IS NOT NULL")
_POSTGRES_INDEXES = sa.text(
    "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY tablename, indexname"
)
_POSTGRES_COLUMNS = sa.text(
    "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default "
    "FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, column_name"
)
_POSTGRES_CONSTRAINTS = sa.text(
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
    "WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2"
)


@pytest.fixture
def url(empty_database_url: str) -> str:
    return empty_database_url


def open_engine(url: str) -> sa.Engine:
    """With the settings that the control plane makes."""
    return Database(url).engine


def shape(engine: sa.Engine) -> dict[str, object]:
    """Each table's and index's definition as the database keeps it, its parts in order of the alphabet."""
    if engine.dialect.name == "postgresql":
        return _postgres_shape(engine)
    with engine.connect() as connection:
        rows = connection.execute(_SHAPE).all()
    return {row.name: _parts(row.sql) for row in rows if row.name != "alembic_version"}


def _parts(definition: str) -> list[str]:
    """A column that a migration adds stands behind the constraints."""
    parts = [""]
    depth = 0
    for sign in re.sub(r"\s+", " ", definition):
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if (sign == "," and depth == 1) or (sign == "(" and depth == 1) or (sign == ")" and depth == 0):
            parts.append("")
        else:
            parts[-1] += sign
    return sorted(part.strip() for part in parts)


def _postgres_shape(engine: sa.Engine) -> dict[str, object]:
    with engine.connect() as connection:
        indexes = connection.execute(_POSTGRES_INDEXES).all()
        columns = connection.execute(_POSTGRES_COLUMNS).all()
        constraints = connection.execute(_POSTGRES_CONSTRAINTS).all()
    found: dict[str, Any] = {}
    for table, *rest in [*columns, *constraints, *indexes]:
        if table != "alembic_version":
            found.setdefault(table, []).append(tuple(rest))
    return found


def test_a_migrated_empty_database_has_the_shape_of_the_tables(url: str, databases: Databases) -> None:
    migrated = open_engine(url)
    migrate(migrated)
    with databases.empty(migrated.dialect.name) as other:
        created = open_engine(other)
        tables.metadata.create_all(created)

        assert shape(migrated) == shape(created)


def test_a_new_database_has_the_public_pool_and_the_counter_of_policies(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)

    with engine.connect() as connection:
        pool = connection.execute(sa.select(tables.pools)).one()
        counter = connection.execute(sa.select(tables.counters)).one()
    assert (pool.id, pool.public, pool.labels, pool.container) == ("public", True, [], b"")
    assert (counter.name, counter.value) == ("policies", 0)


def test_migrating_again_changes_nothing(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    before = shape(engine)
    migrate(engine)

    assert shape(engine) == before
    with engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(tables.pools)).scalar_one() == 1


def test_several_that_start_at_once_migrate_once(url: str) -> None:
    engines = [open_engine(url) for _ in range(4)]
    with ThreadPoolExecutor(len(engines)) as pool:
        list(pool.map(migrate, engines))

    with engines[0].connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(tables.pools)).scalar_one() == 1


def test_a_database_of_a_newer_release_is_refused_and_left_alone(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(DatabaseTooNewError, match=r"newer Interlock \(revision 9999\)"):
        migrate(engine)

    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() == "9999"


def test_a_migration_that_fails_halfway_leaves_an_empty_database(url: str) -> None:
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE audit_unsealed (in_the_way TEXT)")

    with pytest.raises(sa.exc.DBAPIError, match="audit_unsealed"):
        migrate(engine)

    assert list(shape(engine)) == ["audit_unsealed"]
