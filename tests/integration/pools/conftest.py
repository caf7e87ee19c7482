"""The pools package on a real, migrated SQLite file; an admin calls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.identity import principal
from control_plane.storage.database import Database
from control_plane.storage.migrate import migrate
from tests.integration.pools.house import ADMIN, House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    database = Database(f"sqlite:///{tmp_path / 'interlock.db'}")
    migrate(database.engine)
    token = principal.current.set(ADMIN)
    yield House(database)
    principal.current.reset(token)
    database.close()
