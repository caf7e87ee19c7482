"""The pools package on a real, migrated database: SQLite and PostgreSQL; an admin calls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from control_plane.identity import principal
from control_plane.storage.database import Database
from tests.integration.pools.house import ADMIN, House


@pytest.fixture
def house(db: Database) -> Iterator[House]:
    token = principal.current.set(ADMIN)
    yield House(db)
    principal.current.reset(token)
