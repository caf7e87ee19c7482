"""Brings a database forward to the shape that this release needs, whoever else starts at the same moment."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa
import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

log = structlog.get_logger(__name__)

_SCRIPTS: Final = Path(__file__).parent / "migrations"
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
            log.info("database.migrated", from_revision=revision, to_revision=scripts.get_current_head())
        connection.commit()


def _lock(connection: sa.Connection) -> None:
    """Waits until no other process migrates; held until the transaction ends."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
