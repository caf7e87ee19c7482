"""Brings a database forward to the shape that this release needs, whoever else starts at the same moment.

INTERLOCK_DATABASE_URL=… python -m control_plane.storage.migrate
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from control_plane.storage.database import Database

_SCRIPTS: Final = Path(__file__).parent / "migrations"
_LOCK_WITHIN_MS: Final = 60_000
# Any number that nobody else uses in this database: "interlck" in ASCII.
_ADVISORY_LOCK: Final = 0x696E7465726C636B


class DatabaseTooNewError(Exception):
    """A newer release has changed this database; the message says what to do."""

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"the database has the shape of a newer Interlock (revision {revision}), unknown to this one; "
            "start that release, or restore a backup made before it was started"
        )


def migrate(engine: sa.Engine) -> None:
    """Migrates to the newest revision, under a lock and in one transaction; does nothing where it is there.

    Raises:
        DatabaseTooNewError: the database has a revision that this release does not know. Nothing was changed.
    """
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    with engine.connect() as connection:
        _lock(connection)
        revision = MigrationContext.configure(connection).get_current_revision()
        if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
            raise DatabaseTooNewError(revision)
        if revision != scripts.get_current_head():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        connection.commit()


def _lock(connection: sa.Connection) -> None:
    """Waits until no other process migrates; held until the transaction ends."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA busy_timeout={_LOCK_WITHIN_MS}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_LOCK_WITHIN_MS}")
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))


def main() -> int:
    database = Database(os.environ["INTERLOCK_DATABASE_URL"])
    try:
        migrate(database.engine)
    except DatabaseTooNewError as error:
        print(error, file=sys.stderr)
        return 1
    except sa.exc.DatabaseError as error:
        print(f"the database cannot be brought forward ({error.orig}); nothing was changed", file=sys.stderr)
        return 1
    finally:
        database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
