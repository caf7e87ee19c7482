"""The stacks package on a real, migrated database: SQLite and PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.storage.database import Database
from tests.integration.stacks.house import House
from tests.integration.stacks.repository import Repository


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
