"""Archives in an object store, by whichever control plane they were uploaded."""

from __future__ import annotations

import asyncio
import hashlib
import random
from pathlib import Path

import pytest

from control_plane.object_address import ObjectAddress
from control_plane.storage.archive_objects import ObjectArchives
from control_plane.storage.archives import CHUNK_BYTES, ArchiveStore
from control_plane.storage.object_store import ObjectStore


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
