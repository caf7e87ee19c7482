"""A database of any earlier release comes forward with all that is in it, whole or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from control_plane.audit.rules import AuditLog
from control_plane.identity.principal import SYSTEM
from control_plane.storage import shape
from control_plane.storage.database import Database
from control_plane.storage.migrate import migrate
from tests import crashing
from tests.integration.storage.older import REVISIONS, Rows, restore, rows_of

_REVISION = sa.text("SELECT version_num FROM alembic_version")


@pytest.mark.parametrize("revision", REVISIONS)
async def test_it_keeps_every_row_and_its_audit_log_still_verifies(
    empty_database_url: str, revision: str
) -> None:
    before = restore(empty_database_url, revision)
    db = Database(empty_database_url)
    migrate(db.engine)
    assert_kept(before, db.engine)
    assert revision_of(db.engine) == shape.newest()
    verified = await AuditLog(db).verify(replace(SYSTEM, admin=True), None)
    assert (verified.fault, verified.unsealed) == (None, 0)
    assert verified.verified > 20
    db.close()


async def test_a_crash_before_any_statement_leaves_the_old_database_or_the_new_one(
    empty_database_url: str,
) -> None:
    before = restore(empty_database_url, "0001")
    engine = Database(empty_database_url).engine
    seen = []
    async with crashing.opened("tests.integration.storage.older", empty_database_url) as crashes:
        number, is_whole = 0, False
        while not is_whole:
            number += 1
            is_whole = await crashes.is_whole(number)
            seen.append(revision_of(engine))
    assert_kept(before, engine)
    assert len(seen) > 10
    assert seen == ["0001"] * (len(seen) - 1) + [shape.newest()]


def assert_kept(before: Rows, engine: sa.Engine) -> None:
    after = rows_of(engine, like=before)
    for table, rows in before.items():
        if table != "alembic_version":
            assert after[table] == rows


def revision_of(engine: sa.Engine) -> str:
    with engine.connect() as connection:
        return str(connection.execute(_REVISION).scalar_one())
