"""The stacks package on a real, migrated SQLite file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.storage.database import Database
from control_plane.storage.migrate import migrate
from tests.integration.stacks.house import House
from tests.integration.stacks.repository import Repository


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'interlock.db'}")
    migrate(database.engine)
    yield database
    database.close()


@pytest.fixture
def house(db: Database, tmp_path: Path) -> House:
    return House(db, tmp_path / "sources")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository")
    made.path.mkdir()
    made.git("init", "-q", "-b", "main")
    made.commit()
    return made
