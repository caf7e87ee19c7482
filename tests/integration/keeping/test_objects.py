"""Backup, restore and verify where output and archives are in an object store: a real one, moto's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from control_plane import object_address
from control_plane.keeping import stored, verify
from control_plane.keeping.compression import Compression
from control_plane.keeping.errors import DatabaseUnfit, Refused
from control_plane.keeping.ground import Ground
from control_plane.keeping.packing import InObjectStore
from control_plane.keeping.wanted import Wanted, examine
from control_plane.object_address import ObjectAddress
from control_plane.storage import segments
from control_plane.storage.database import Database
from control_plane.storage.object_store import ObjectStore
from control_plane.storage.output_files import OutputFiles
from control_plane.storage.output_objects import OutputObjects
from scripts import objects
from tests.databases import Databases
from tests.integration.keeping import installations
from tests.integration.keeping.installations import Installation, made_backup, restored, silent, tree
from tests.integration.keeping.spoiling import change_manifest


def test_from_files_to_an_object_store_and_back_no_byte_is_lost(
    live: Installation,
    kind: str,
    databases: Databases,
    tmp_path: Path,
    address: ObjectAddress,
    object_server: objects.Server,
) -> None:
    folder, _ = made_backup(live, tmp_path / "of files")
    with installations.empty_ground(databases, kind, tmp_path / "new", object_store=address) as ground:
        restored(folder, ground)
        assert not ground.output.exists()
        assert not ground.archives.exists()
        checked = verify.installation(ground, None, silent())
        assert (checked.faults, checked.outputs, checked.archives) == ([], 5, 2)

        asyncio.run(pack(ground, address))
        again, report = made_backup(Installation(live.past, ground, {}), tmp_path / "of objects")
        assert (report.faults, report.outputs, report.archives) == ([], 5, 2)
        assert verify.backup(again, silent()).intact
    other = object_address.read(object_server.environment())
    with installations.empty_ground(databases, kind, tmp_path / "other", object_store=other) as ground:
        restored(again, ground)
        assert verify.installation(ground, None, silent()).intact
    with installations.empty_ground(databases, kind, tmp_path / "files") as ground:
        restored(again, ground)
        assert verify.installation(ground, None, silent()).intact
        assert outputs_of(ground) == outputs_of(live.ground)
        assert tree(ground.archives) == tree(live.ground.archives)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_lost_or_changed_object_names_its_run(
    live: Installation, kind: str, databases: Databases, tmp_path: Path, address: ObjectAddress
) -> None:
    folder, _ = made_backup(live, tmp_path / "backup")
    with installations.empty_ground(databases, kind, tmp_path / "new", object_store=address) as ground:
        restored(folder, ground)
        store = ObjectStore(address)
        asyncio.run(store.put(segment_of(ground, live.runs["plain"]), b"something else"))
        asyncio.run(store.remove(segment_of(ground, live.runs["abandoned"])))
        archive = min(path.name for path in live.ground.archives.iterdir())
        asyncio.run(store.remove(f"archives/{archive}"))
        faults = verify.installation(ground, None, silent()).faults
        assert sorted(fault.id for fault in faults) == sorted(
            [live.runs["plain"], live.runs["abandoned"], archive]
        )


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_store_that_is_away_is_no_damage_and_takes_no_restore(
    live: Installation, kind: str, databases: Databases, tmp_path: Path, address: ObjectAddress
) -> None:
    folder, _ = made_backup(live, tmp_path / "backup")
    nowhere = ObjectAddress(
        bucket="nobody-has-it", prefix="", endpoint=address.endpoint, region=address.region
    )
    with installations.empty_ground(databases, kind, tmp_path / "new", object_store=nowhere) as ground:
        with pytest.raises(Refused, match=r"s3://nobody-has-it: .*there is no bucket nobody-has-it"):
            restored(folder, ground)
        assert tree(tmp_path / "new") == {"server.lock": b""}
    with installations.empty_ground(databases, kind, tmp_path / "new", object_store=address) as ground:
        restored(folder, ground)
        away = Ground(ground.data_dir, ground.shared_dir, ground.database_url, ground.master_key, nowhere)
        with pytest.raises(Refused, match="s3://nobody-has-it"):
            verify.installation(away, None, silent())


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_backup_of_a_release_without_object_stores_goes_to_files_only(
    live: Installation, kind: str, databases: Databases, tmp_path: Path, address: ObjectAddress
) -> None:
    folder, _ = made_backup(live, tmp_path / "backup")
    change_manifest(folder, revision="0009")
    with (
        installations.empty_ground(databases, kind, tmp_path / "new", object_store=address) as ground,
        pytest.raises(DatabaseUnfit, match="restore it without INTERLOCK_OBJECT_STORE_URL"),
    ):
        restored(folder, ground)


async def pack(ground: Ground, address: ObjectAddress) -> None:
    """Moves what is over into packs, and removes what was written."""
    db = Database(ground.database_url.render_as_string(hide_password=False))
    store, in_files = ObjectStore(address), OutputFiles(ground.output)
    outputs = OutputObjects(db, store, in_files)
    keeper = InObjectStore(db, store, outputs, in_files, ground.data_dir, stays_s=0)
    compression = Compression(db, outputs, keeper, after_s=0)
    assert [await compression.round(), await compression.round()] == [2, 0]
    db.close()


def outputs_of(ground: Ground) -> dict[str, str]:
    """The digest of every output, by its run."""
    found = {}
    with stored.opened(ground) as place:
        for path in ground.output.glob("*/*"):
            run_id = path.name.partition(".")[0]
            with place.output(run_id) as output:
                assert output is not None
                found[run_id] = examine(Wanted(run_id, (), is_all=False), output.blocks()).sha256
    return found


def segment_of(ground: Ground, run_id: str) -> str:
    """The key of its first segment's object."""
    db = Database(ground.database_url.render_as_string(hide_password=False))
    try:
        [segment] = asyncio.run(db.read(lambda tx: list(segments.behind(tx, run_id, 0))))
    finally:
        db.close()
    return segment.key
