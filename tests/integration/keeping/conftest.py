"""A real database (SQLite and PostgreSQL) with runs that are over, and their output in a folder; and an object store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from control_plane import object_address
from control_plane.keys import MasterKey, Sealer
from control_plane.object_address import ObjectAddress
from control_plane.storage.database import Database
from control_plane.storage.output_files import OutputFiles
from scripts import objects, postgres
from tests.integration.keeping import installations
from tests.integration.keeping.installations import Installation, Past
from tests.integration.runs.conftest import World


@pytest.fixture
async def past(db: Database, tmp_path: Path) -> Past:
    world = World(db, Sealer(MasterKey(bytes(32))))
    await world.add_stack()
    live = tmp_path / "live"
    live.mkdir()
    return Past(db, OutputFiles(live / "output"), world)


@pytest.fixture
async def live(past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    if not past.db.is_sqlite:
        # The tools that belong to the server of the tests.
        monkeypatch.setenv("PATH", f"{postgres.ensure()}{os.pathsep}{os.environ['PATH']}")
    return await installations.furnished(past, tmp_path)


@pytest.fixture
def kind(live: Installation) -> str:
    return live.ground.database_url.get_backend_name()


@pytest.fixture
def address(object_server: objects.Server, monkeypatch: pytest.MonkeyPatch) -> ObjectAddress:
    """A bucket with nothing in it; its credentials are in the environment."""
    environment = object_server.environment()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = object_address.read(environment)
    assert found is not None
    return found
