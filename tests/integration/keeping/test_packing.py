"""Output of runs that are over moves into the object store as one compressed object; nobody who reads it notices."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
import zstandard

from control_plane.keeping import stored
from control_plane.keeping.compression import Compression
from control_plane.keeping.ground import Ground
from control_plane.keeping.packing import InObjectStore
from control_plane.keeping.wanted import Wanted, examine
from control_plane.object_address import ObjectAddress
from control_plane.storage import finished_output, packs, seekable, segments
from control_plane.storage.finished_output import compressed_path
from control_plane.storage.object_store import ObjectStore
from control_plane.storage.output_objects import OutputObjects
from control_plane.storage.segments import Segment
from control_plane.storage.tables import audit_events
from tests.integration.keeping.installations import Past

LINES = b"".join(b"line %d of the plan\n" % number for number in range(40_000))


class CountingStore(ObjectStore):
    """The real one, and how many bytes were fetched from it."""

    fetched_bytes = 0

    async def get(self, key: str, start: int, length: int) -> bytes:
        self.fetched_bytes += length
        return await super().get(key, start, length)


@dataclass
class Bucket:
    """An object store, and control planes that use it, one after the other or at once."""

    past: Past
    address: ObjectAddress
    folder: Path

    def __post_init__(self) -> None:
        self.store = CountingStore(self.address)

    def outputs(self) -> OutputObjects:
        """Of a control plane that has not looked yet."""
        return OutputObjects(self.past.db, self.store, self.past.outputs)

    def compression(self, *, stays_s: float = 0) -> Compression:
        outputs = self.outputs()
        keeper = InObjectStore(
            self.past.db, self.store, outputs, self.past.outputs, self.folder, stays_s=stays_s
        )
        return Compression(self.past.db, outputs, keeper, after_s=0)

    async def run_in_segments(self, content: bytes, *, size_bytes: int = 300_000) -> str:
        """A run that is over, whose output was streamed into the store."""
        run_id = await self.past.run(b"", recorded=content)
        for offset in range(0, len(content), size_bytes):
            data = content[offset : offset + size_bytes]
            so_far = hashlib.sha256(content[: offset + len(data)]).hexdigest()
            segment = Segment(run_id, offset, len(data), 1, hashlib.sha256(data).hexdigest(), so_far)
            await self.store.put(segment.key, data)
            await self.past.db.write(lambda tx, each=segment: segments.insert(tx, each))  # type: ignore[misc]
        return run_id

    async def segments_of(self, run_id: str) -> list[Segment]:
        return list(await self.past.db.read(lambda tx: segments.behind(tx, run_id, 0)))


@pytest.fixture
def bucket(past: Past, address: ObjectAddress, tmp_path: Path) -> Bucket:
    return Bucket(past, address, tmp_path)


async def test_segments_become_one_compressed_object_and_read_the_same_from_any_byte(bucket: Bucket) -> None:
    run_id = await bucket.run_in_segments(LINES)
    written = await bucket.segments_of(run_id)
    compression = bucket.compression()
    assert await compression.round() == 1
    assert await bucket.segments_of(run_id) == written

    assert await compression.round() == 0
    assert await bucket.segments_of(run_id) == []
    for segment in written:
        with pytest.raises(FileNotFoundError):
            await bucket.store.size(segment.key)
    for offset in (0, seekable.FRAME_BYTES - 1, seekable.FRAME_BYTES, len(LINES) - 1, len(LINES)):
        assert await read(bucket.outputs(), run_id, offset) == LINES[offset:]
    whole = await bucket.store.get(packs.key_of(run_id), 0, await bucket.store.size(packs.key_of(run_id)))
    reader = zstandard.ZstdDecompressor().stream_reader(whole, read_across_frames=True)
    assert reader.read() == LINES
    actions = sa.select(audit_events.c.action, audit_events.c.resource_id)
    assert (await bucket.past.db.read(lambda tx: tx.execute(actions).all()))[-1:] == [
        ("run.output_moved", run_id)
    ]


async def test_what_is_in_files_moves_too_however_small_and_the_files_go_later(bucket: Bucket) -> None:
    contents = {
        await bucket.past.run(LINES): LINES,
        await bucket.past.run(b"short\n"): b"short\n",
        (before := await bucket.past.run(LINES[:9000])): LINES[:9000],
    }
    digest = hashlib.sha256(LINES[:9000]).hexdigest()
    finished_output.compress(bucket.past.outputs.path(before), size_bytes=9000, sha256=digest)
    performing = await bucket.past.run(b"begun\n", state="PERFORMING", finished_at=None)
    compression = bucket.compression()
    assert await compression.round() == 3
    await compression.round()
    await compression.round()

    for run_id, content in contents.items():
        assert await read(bucket.outputs(), run_id, 0) == content
        assert not bucket.past.outputs.path(run_id).exists()
        assert not compressed_path(bucket.past.outputs.path(run_id)).exists()
    assert bucket.past.outputs.path(performing).exists()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_few_bytes_in_the_middle_cost_a_frame_and_the_table_once(bucket: Bucket) -> None:
    content = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(100_000))
    run_id = await bucket.run_in_segments(content)
    await bucket.compression().round()
    outputs = bucket.outputs()
    bucket.store.fetched_bytes = 0
    readers = (outputs.read(run_id, 1_500_000 + number, 100) for number in range(20))
    assert await asyncio.gather(*readers) == [content[1_500_000 + number :][:100] for number in range(20)]
    assert bucket.store.fetched_bytes < 1.1 * seekable.FRAME_BYTES


async def test_who_knew_the_segments_reads_on_in_the_pack_when_they_are_gone(bucket: Bucket) -> None:
    run_id = await bucket.run_in_segments(LINES)
    outputs = bucket.outputs()
    assert await outputs.read(run_id, 0, 1000) == LINES[:1000]
    compression = bucket.compression()
    await compression.round()
    await compression.round()
    assert await bucket.segments_of(run_id) == []

    assert await read(outputs, run_id, 310_000) == LINES[310_000:]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_an_output_that_is_not_the_one_on_record_stays_where_it_is(bucket: Bucket) -> None:
    run_id = await bucket.run_in_segments(LINES)
    [first, *_] = await bucket.segments_of(run_id)
    await bucket.store.put(first.key, b"?" * first.size_bytes)
    compression = bucket.compression()
    assert [await compression.round(), await compression.round()] == [0, 0]
    assert await bucket.segments_of(run_id)
    with pytest.raises(FileNotFoundError):
        await bucket.store.size(packs.key_of(run_id))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_pack_that_does_not_arrive_whole_takes_no_place(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = await bucket.run_in_segments(LINES)

    async def cut_off(key: str, file: Path) -> None:
        await bucket.store.put(key, (await asyncio.to_thread(file.read_bytes))[:-1])

    monkeypatch.setattr(bucket.store, "put_file", cut_off)
    assert await bucket.compression().round() == 0
    assert await read(bucket.outputs(), run_id, 0) == LINES


async def test_what_a_killed_control_plane_left_is_removed_by_the_next(bucket: Bucket) -> None:
    run_id = await bucket.run_in_segments(LINES)
    # It is gone before it has removed anything.
    await bucket.compression(stays_s=3600).round()
    (bucket.folder / "packing-left").write_bytes(b"of a draft")
    after = bucket.compression()
    await after.round()
    await after.round()

    assert await bucket.segments_of(run_id) == []
    assert not list(bucket.folder.glob("packing-*"))
    assert await read(bucket.outputs(), run_id, 0) == LINES


async def test_what_was_moved_is_found_by_backup_and_verify(bucket: Bucket) -> None:
    run_id = await bucket.run_in_segments(LINES)
    compression = bucket.compression()
    await compression.round()
    await compression.round()
    ground = Ground(bucket.folder, bucket.folder, bucket.past.db.url, "", bucket.address)

    def digest() -> str:
        with stored.opened(ground) as place, place.output(run_id) as found:
            assert found is not None
            return examine(Wanted(run_id, (), is_all=True), found.blocks()).sha256

    assert await asyncio.to_thread(digest) == hashlib.sha256(LINES).hexdigest()


async def read(outputs: OutputObjects, run_id: str, offset: int) -> bytes:
    parts = []
    while data := await outputs.read(run_id, offset, 1 << 18):
        parts.append(data)
        offset += len(data)
    return b"".join(parts)
