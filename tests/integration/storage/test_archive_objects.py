"""Archives in an object store, by whichever control plane they were uploaded."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.keys import MasterKey, Sealer
from control_plane.object_address import ObjectAddress
from control_plane.runs import progress
from control_plane.runs.kept import KeptPlans
from control_plane.storage.archive_objects import ObjectArchives
from control_plane.storage.archives import CHUNK_BYTES, ArchiveStore
from control_plane.storage.database import Database
from control_plane.storage.object_store import ObjectStore
from tests.integration.runs.conftest import RUNNER, World


@pytest.fixture
def archives(tmp_path: Path, address: ObjectAddress) -> ObjectArchives:
    made = ObjectArchives(tmp_path / "here", ObjectStore(address))
    made.open(is_shared=True)
    return made


async def kept(archives: ArchiveStore, data: bytes) -> str:
    with archives.new() as archive:
        await asyncio.to_thread(archive.write, data)
        await archives.keep(archive)
        return archive.sha256


async def read(archives: ArchiveStore, sha256: str) -> bytes:
    chunks = [chunk async for chunk in archives.chunks(sha256)]
    assert all(len(chunk) <= CHUNK_BYTES for chunk in chunks)
    return b"".join(chunks)


@pytest.mark.parametrize("size", [0, 1, 11 << 20])
async def test_another_control_plane_reads_what_was_kept(
    archives: ObjectArchives, address: ObjectAddress, tmp_path: Path, size: int
) -> None:
    data = random.Random(size).randbytes(size)
    sha256 = await kept(archives, data)
    assert sha256 == hashlib.sha256(data).hexdigest()
    assert list((tmp_path / "here").iterdir()) == []
    assert await read(ObjectArchives(tmp_path / "there", ObjectStore(address)), sha256) == data


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_a_plan_left_is_given_to_its_apply_by_another_control_plane(
    archives: ObjectArchives, address: ObjectAddress, tmp_path: Path, db: Database
) -> None:
    world = World(db, Sealer(MasterKey(bytes(32))))
    await world.add_stack()
    run_id = await world.queue(type="TRACKED")
    ref = await world.assign(run_id)
    await world.db.write(lambda tx: progress.planning(tx, ref, RUNNER))
    left = random.Random(1).randbytes(1 << 20)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(left), 100_000):
            yield left[start : start + 100_000]

    kept = await KeptPlans(db, archives, world.sealer).take(await world.row(run_id), pieces())
    there = ObjectArchives(tmp_path / "there", ObjectStore(address))
    elsewhere = KeptPlans(db, there, world.sealer)
    assert b"".join([chunk async for chunk in elsewhere.chunks(run_id)]) == left
    await elsewhere.remove(run_id, kept.sealed_sha256)
    with pytest.raises(FileNotFoundError):
        await read(archives, kept.sealed_sha256)


async def test_what_was_removed_is_not_there_and_may_be_removed_again(archives: ObjectArchives) -> None:
    sha256 = await kept(archives, b"archive")
    await archives.remove(sha256)
    await archives.remove(sha256)
    with pytest.raises(FileNotFoundError):
        await read(archives, sha256)


async def test_an_archive_that_is_a_file_from_before_is_found(
    archives: ObjectArchives, tmp_path: Path
) -> None:
    sha256 = await kept(ArchiveStore(tmp_path / "here"), b"from before")
    assert await read(archives, sha256) == b"from before"
    await archives.remove(sha256)
    assert list((tmp_path / "here").iterdir()) == []
