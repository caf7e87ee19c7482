"""An installation with everything in it that a backup must hold, and others, empty, to restore it to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from control_plane import clock
from control_plane.audit.sealer import LogSealer
from control_plane.keeping import backup, restore, verify
from control_plane.keeping.compression import Compression, InPlace
from control_plane.keeping.ground import Ground
from control_plane.keeping.progress import Progress
from control_plane.keeping.report import Report
from control_plane.object_address import ObjectAddress
from control_plane.runs import late, store
from control_plane.storage import database, installation
from control_plane.storage.database import Database
from control_plane.storage.finished_output import compressed_path
from control_plane.storage.output_files import OutputFiles
from control_plane.storage.tables import late_evidence, metadata, plans, replicas, stacks
from interlock.v1 import run_pb2
from tests.databases import Databases
from tests.integration.runs.conftest import World

KEY = "6b" * 32
LINES = b"".join(b"line %d of the plan\n" % number for number in range(3_000))
ARCHIVE, KEPT_PLAN = b"an archive", b"a sealed plan"
# Not the restored one's: who was connected, and the word of the restore itself.
_OTHERWISE = {"replicas", "audit_events", "audit_unsealed"}


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


@dataclass(frozen=True)
class Installation:
    past: Past
    ground: Ground
    # Run ids by what is special about them.
    runs: dict[str, str]

    def path(self, which: str) -> Path:
        """Where the output lies, in whichever form."""
        path = self.past.outputs.path(self.runs[which])
        return compressed_path(path) if which == "compressed" else path

    def verify(self) -> Report:
        return verify.installation(self.ground, None, silent())


async def furnished(past: Past, folder: Path) -> Installation:
    """One run of every kind, an archive, a kept plan, a sealed audit log, and a master key."""
    live = folder / "live"
    key_file = live / "master.key"
    key_file.write_text(KEY + "\n")
    key_file.chmod(0o600)
    await installation.master_key(past.db, given="", file=key_file)
    ground = Ground(live, live, past.db.url, "")
    digest = hashlib.sha256(ARCHIVE).hexdigest()
    _archive(ground, ARCHIVE)
    made = {"compressed": await past.run(LINES)}
    await Compression(past.db, past.outputs, InPlace(past.outputs), after_s=0).round()
    made["plain"] = await past.run(LINES[:50_000], source_sha256=digest)
    made["silent"] = await past.run(b"")
    made["abandoned"] = await _abandoned(past, LINES[:100], LINES[:200], reported=True)
    made["returning"] = await _abandoned(past, LINES[:100], LINES[:300], reported=False)
    # Its apply has begun to write behind what its plan wrote.
    made["performing"] = await past.run(LINES[:900], recorded=LINES[:500], state="APPLYING", finished_at=None)
    made["queued"] = await past.world.queue()
    await _keep_plan(past, made["performing"], _archive(ground, KEPT_PLAN))
    await past.db.write(lambda tx: tx.execute(sa.update(stacks).values(archive_sha256=digest)))
    await past.db.write(lambda tx: tx.execute(sa.insert(replicas), _REPLICA))
    await LogSealer(past.db).seal_all()
    return Installation(past, ground, made)


def made_backup(
    installation_: Installation, target: Path, *, with_master_key: bool = False
) -> tuple[Path, Report]:
    report = backup.make(installation_.ground, target, with_master_key=with_master_key, progress=silent())
    return target, report


@contextmanager
def empty_ground(
    databases: Databases,
    kind: str,
    folder: Path,
    master_key: str = KEY,
    object_store: ObjectAddress | None = None,
) -> Iterator[Ground]:
    """A place that nothing was ever in."""
    if kind == "sqlite":
        yield Ground(
            folder, folder, database.parse(f"sqlite:///{folder}/interlock.db"), master_key, object_store
        )
        return
    with databases.empty(kind) as url:
        yield Ground(folder, folder, database.parse(url), master_key, object_store)


def restored(folder: Path, ground: Ground) -> Report:
    return restore.put_back(folder, ground, silent())


def records(url: sa.URL) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table that a restore must bring back as it was."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = {
            table.name: sorted(map(tuple, connection.execute(sa.select(table))), key=repr)
            for table in metadata.sorted_tables
            if table.name not in _OTHERWISE
        }
    engine.dispose()
    return found


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for SQLite's own beside the database."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.endswith(("-wal", "-shm"))
    }


def silent() -> Progress:
    return Progress(StringIO())


_REPLICA = {
    "id": "rep_old",
    "address": "127.0.0.1:1",
    "started_at": 1,
    "heartbeat_at": 1 << 60,
    "storage_id": "of another folder",
}


async def _abandoned(past: Past, own: bytes, whole: bytes, *, reported: bool) -> str:
    run_id = await past.run(whole, recorded=own, state="FAILED", failure=run_pb2.RUN_FAILURE_ABANDONED)
    await past.db.write(lambda tx: late.note_return(tx, run_id))
    if reported:
        values = {
            "reported_at": 1,
            "whole_output_size_bytes": len(whole),
            "whole_output_sha256": hashlib.sha256(whole).hexdigest(),
        }
        ended = sa.update(late_evidence).where(late_evidence.c.run_id == run_id).values(**values)
        await past.db.write(lambda tx: tx.execute(ended))
    return run_id


async def _keep_plan(past: Past, run_id: str, sealed_sha256: str) -> None:
    row = {"run_id": run_id, "assignment_id": "", "sealed_sha256": sealed_sha256}
    await past.db.write(lambda tx: tx.execute(sa.insert(plans), row))


def _archive(ground: Ground, content: bytes) -> str:
    ground.archives.mkdir(exist_ok=True)
    digest = hashlib.sha256(content).hexdigest()
    (ground.archives / digest).write_bytes(content)
    return digest
