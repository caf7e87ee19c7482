"""Invariant 4, wherever output is kept: what was acknowledged is durable, nothing appears twice, nothing is left out."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane import errors
from control_plane.keys import MasterKey, Sealer
from control_plane.object_address import ObjectAddress
from control_plane.storage import outputs as limits
from control_plane.storage.database import Database
from control_plane.storage.outputs import PENDING_BYTES, READ_BLOCK_BYTES, OutputGap, Outputs, StoredOutput
from tests.databases import Databases
from tests.integration.runs.conftest import World
from tests.integration.storage import places
from tests.integration.storage.places import Place


@pytest.fixture(params=["files", "objects-sqlite", "objects-postgresql"])
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, databases: Databases, address: ObjectAddress
) -> AsyncIterator[Place]:
    kind, _, backend = str(request.param).partition("-")
    with databases.migrated(backend or "sqlite") as url:
        db = Database(url)
        world = World(db, Sealer(MasterKey(bytes(32))))
        await world.add_stack()
        async with places.opened(tmp_path / "output", world, None if kind == "files" else address) as made:
            yield made
        db.close()


async def all_of(outputs: Outputs, run_id: str) -> bytes:
    parts = b""
    while part := await outputs.read(run_id, len(parts), READ_BLOCK_BYTES):
        parts += part
    return parts


def stored(data: bytes) -> StoredOutput:
    return StoredOutput(len(data), hashlib.sha256(data).hexdigest())


async def test_what_was_flushed_is_there_with_its_digest_for_every_control_plane(place: Place) -> None:
    here = await place.control_plane()
    assert await here.append(place.run_id, 0, b"one ")
    assert await here.append(place.run_id, 4, b"two")
    await here.flush(place.run_id)
    other = await place.control_plane()
    for each in (here, other):
        assert await each.stored(place.run_id) == stored(b"one two")
        assert await each.size_stored(place.run_id) == 7
        assert [await each.read(place.run_id, at, 2) for at in (0, 2, 6, 7)] == [b"on", b"e ", b"o", b""]


async def test_bytes_sent_again_are_passed_over_and_others_refused(place: Place) -> None:
    here = await place.control_plane()
    await here.append(place.run_id, 0, b"abcdef")
    assert not await here.append(place.run_id, 2, b"cd")
    assert await here.append(place.run_id, 4, b"efgh")
    with pytest.raises(OutputGap, match="differ"):
        await here.append(place.run_id, 1, b"xcd")
    with pytest.raises(OutputGap, match="only 8 are here"):
        await here.append(place.run_id, 9, b"j")
    await here.flush(place.run_id)
    assert await all_of(here, place.run_id) == b"abcdefgh"


async def test_bytes_sent_again_after_they_left_memory_are_compared_with_what_is_stored(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECENT_BYTES", 4)
    here = await place.control_plane()
    for offset in range(0, 40, 4):
        await here.append(place.run_id, offset, b"abcd")
        await here.flush(place.run_id)
    assert not await here.append(place.run_id, 0, b"abcdabcd")
    assert await here.append(place.run_id, 32, b"abcdabcdnew")
    with pytest.raises(OutputGap, match="differ"):
        await here.append(place.run_id, 4, b"xbcd")


async def test_another_control_plane_goes_on_behind_what_is_stored(place: Place) -> None:
    first = await place.control_plane()
    await first.append(place.run_id, 0, b"stored ")
    await first.flush(place.run_id)
    first.leave(place.run_id)
    second = await place.control_plane()
    assert await second.append(place.run_id, 3, b"red and more")
    await second.flush(place.run_id)
    whole = b"stored and more"
    assert await second.stored(place.run_id) == stored(whole)
    assert await all_of(first, place.run_id) == whole


async def test_bytes_that_another_control_plane_stored_meanwhile_come_once(place: Place) -> None:
    """A runner moved, and both control planes had the end of its output on the way."""
    first, second = await place.control_plane(), await place.control_plane()
    await first.append(place.run_id, 0, b"abcdef")
    await first.flush(place.run_id)
    await second.append(place.run_id, 0, b"abc")
    await second.flush(place.run_id)
    await second.append(place.run_id, 3, b"def")
    await second.append(place.run_id, 6, b"ghi")
    await second.flush(place.run_id)
    assert await second.stored(place.run_id) == stored(b"abcdefghi")
    assert await all_of(await place.control_plane(), place.run_id) == b"abcdefghi"


async def test_other_bytes_than_another_control_plane_stored_are_held_back(place: Place) -> None:
    first, second = await place.control_plane(), await place.control_plane()
    await first.append(place.run_id, 0, b"abc")
    await first.flush(place.run_id)
    await second.append(place.run_id, 0, b"xyz")
    with pytest.raises((errors.DiskFull, errors.Unavailable)):
        await second.flush(place.run_id)
    assert await all_of(await place.control_plane(), place.run_id) == b"abc"


async def test_what_was_left_before_it_was_durable_is_sent_again(place: Place) -> None:
    first = await place.control_plane()
    await first.append(place.run_id, 0, b"durable")
    await first.flush(place.run_id)
    await first.append(place.run_id, 7, b" and not")
    waiting = asyncio.create_task(first.flush(place.run_id))
    first.leave(place.run_id)
    second = await place.control_plane()
    size = (await second.stored(place.run_id)).size_bytes
    await second.append(place.run_id, size, b"durable and not"[size:])
    await second.flush(place.run_id)
    assert await all_of(second, place.run_id) == b"durable and not"
    waiting.cancel()


async def test_more_than_may_wait_waits_until_it_is_durable(place: Place) -> None:
    here = await place.control_plane()
    output = await here.open(place.run_id)
    block = random.Random(1).randbytes(READ_BLOCK_BYTES)
    count = 3 * PENDING_BYTES // len(block)
    for _ in range(count):
        await here.make_room(place.run_id, len(block))
        await here.append(place.run_id, output.size_bytes, block)
        assert output.size_bytes - output.durable_bytes <= PENDING_BYTES
    await here.flush(place.run_id)
    assert await here.stored(place.run_id) == stored(block * count)
    other = await place.control_plane()
    assert await all_of(other, place.run_id) == block * count
    for at in (0, 1, len(block) - 1, PENDING_BYTES + 3, count * len(block) - 5):
        assert await other.read(place.run_id, at, 10) == (block * count)[at : at + 10]
