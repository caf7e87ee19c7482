"""The identity package on a real, migrated SQLite file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.storage.database import Database
from control_plane.storage.migrate import migrate
from tests.integration.identity.house import House


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'interlock.db'}")
    migrate(database.engine)
    yield database
    database.close()


@pytest.fixture
def house(db: Database) -> House:
    return House(db)
