"""A real database (SQLite and PostgreSQL) with runs that are over, and their output in a folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from control_plane import clock
from control_plane.keys import MasterKey, Sealer
from control_plane.runs import store
from control_plane.storage.database import Database
from control_plane.storage.output_files import OutputFiles
from tests.integration.runs.conftest import World


@dataclass(frozen=True)
class Past:
    """Runs that are over."""

    db: Database
    outputs: OutputFiles
    world: World

    async def run(self, content: bytes, *, recorded: bytes | None = None, **columns: object) -> str:
        """A run with this output; `recorded`: what its record speaks of, where that is something else."""
        run_id = await self.world.queue()
        record = content if recorded is None else recorded
        values = {
            "state": "FINISHED",
            "finished_at": clock.now_us(),
            "output_size_bytes": len(record),
            "output_sha256": hashlib.sha256(record).hexdigest(),
            **columns,
        }
        await self.db.write(lambda tx: store.update(tx, run_id, **values))
        self.write(run_id, content)
        return run_id

    def write(self, run_id: str, content: bytes) -> None:
        if not content:
            return
        path = self.outputs.path(run_id)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
async def past(db: Database, tmp_path: Path) -> Past:
    world = World(db, Sealer(MasterKey(bytes(32))))
    await world.add_stack()
    live = tmp_path / "live"
    live.mkdir()
    return Past(db, OutputFiles(live / "output"), world)
