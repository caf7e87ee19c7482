"""What happens to a database at each start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from control_plane.storage import shape
from control_plane.storage.database import Database
from control_plane.storage.migrate import migrate


@pytest.fixture
def engine(empty_database_url: str) -> Iterator[sa.Engine]:
    database = Database(empty_database_url)
    yield database.engine
    database.close()


def revision(engine: sa.Engine) -> str:
    with engine.connect() as connection:
        return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())


def test_an_empty_database_is_brought_forward(engine: sa.Engine) -> None:
    shape.ensure(engine)
    assert revision(engine) == shape.newest()


def test_the_newest_revision_is_where_migrations_lead(engine: sa.Engine) -> None:
    migrate(engine)
    assert revision(engine) == shape.newest()


def test_a_database_of_a_newer_release_is_refused_with_what_to_do(engine: sa.Engine) -> None:
    shape.ensure(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(
        shape.CannotMigrateError, match=r"newer Interlock \(revision 9999\).*start that release"
    ):
        shape.ensure(engine)

    assert revision(engine) == "9999"


def test_a_migration_that_fails_says_why(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE audit_unsealed (in_the_way TEXT)")

    with pytest.raises(shape.CannotMigrateError, match=r"audit_unsealed\W+already exists"):
        shape.ensure(engine)
