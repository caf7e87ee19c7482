"""The audit log on a real, migrated database: SQLite and PostgreSQL."""

from __future__ import annotations

import pytest

from control_plane.storage.database import Database
from tests.integration.audit.house import House


@pytest.fixture
def house(db: Database) -> House:
    return House(db)
