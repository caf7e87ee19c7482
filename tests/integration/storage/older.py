"""Databases of earlier releases, with what their users had in them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from control_plane.storage import migrate
from control_plane.storage.database import Database
from tests import crashing

REVISIONS: Final = ("0001", "0002")
_DUMP: Final = Path(__file__).parent / "releases" / "0002.sql"
Rows = Mapping[str, Sequence[tuple[Any, ...]]]


def restore(url: str, revision: str) -> Rows:
    """Fills an empty database; what is in it, by table. On PostgreSQL, the same rows in that revision's tables."""
    script = _DUMP.read_text()
    if revision == "0001":
        # All that the second revision brought.
        script += "DROP TABLE installation; UPDATE alembic_version SET version_num = '0001';"
    engine = sa.create_engine(url)
    original = engine
    if engine.dialect.name == "sqlite":
        _execute(script, sa.make_url(url).database)
    else:
        original = sa.create_engine(
            "sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False}
        )
        with original.connect() as connection:
            connection.connection.driver_connection.executescript(script)  # type: ignore[union-attr]
        _copy(original, engine, revision)
    return rows_of(original)


def rows_of(engine: sa.Engine, like: Rows | None = None) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, or of those columns that are in `like`; each begins with its table's column names."""
    found = {}
    for table in _reflected(engine).sorted_tables:
        names = like[table.name][0] if like is not None and table.name in like else tuple(table.c.keys())
        if like is None or table.name in like:
            with engine.connect() as connection:
                rows = connection.execute(sa.select(*(table.c[name] for name in names))).all()
            found[table.name] = [names, *sorted((tuple(map(_plain, row)) for row in rows), key=repr)]
    return found


def _execute(script: str, file: str | None) -> None:
    connection = sqlite3.connect(file or "")
    connection.executescript(script)
    connection.close()


def _copy(original: sa.Engine, target: sa.Engine, revision: str) -> None:
    """Into the tables as that revision made them, without the rows with which it began."""
    config = Config()
    config.set_main_option("script_location", str(migrate._SCRIPTS))
    with target.connect() as to, original.connect() as source:
        config.attributes["connection"] = to
        command.upgrade(config, revision)
        tables = [table for table in _reflected(target).sorted_tables if table.name != "alembic_version"]
        of_source = _reflected(original)
        for name in ("pools", "counters"):
            to.exec_driver_sql(f"DELETE FROM {name}")
        for table in tables:
            rows = source.execute(sa.select(of_source.tables[table.name])).mappings().all()
            if rows:
                to.execute(sa.insert(table), [_typed(table, row) for row in rows])
        # A trigger put every event there; the dump's were sealed.
        to.exec_driver_sql("DELETE FROM audit_unsealed")
        to.commit()


def _typed(table: sa.Table, row: sa.RowMapping) -> dict[str, Any]:
    """SQLite's values as PostgreSQL wants them."""
    return {
        name: bool(value) if isinstance(table.c[name].type, sa.Boolean) else value
        for name, value in row.items()
    }


def _plain(value: Any) -> Any:
    """The same for both databases."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, memoryview):
        return bytes(value)
    return json.dumps(value) if isinstance(value, list | dict) else value


def _reflected(engine: sa.Engine) -> sa.MetaData:
    metadata = sa.MetaData()
    metadata.reflect(engine)
    return metadata


def _crash(url: str, number: int) -> None:
    engine = Database(url).engine
    crashing.crash_before(engine, number)
    migrate.migrate(engine)


if __name__ == "__main__":
    crashing.serve(_crash)
