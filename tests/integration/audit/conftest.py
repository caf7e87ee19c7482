"""The audit log on a real, migrated SQLite file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.storage.database import Database
from control_plane.storage.migrate import migrate
from tests.integration.audit.house import House


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'interlock.db'}"


@pytest.fixture
def house(url: str) -> Iterator[House]:
    database = Database(url)
    migrate(database.engine)
    yield House(database)
    database.close()
