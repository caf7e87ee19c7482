"""What is particular to output in an object store: segments and their fence, a store that is away, and its costs."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from control_plane import errors
from control_plane.keys import MasterKey, Sealer
from control_plane.object_address import ObjectAddress
from control_plane.runs import moves, store
from control_plane.runs.states import RunState
from control_plane.storage import object_store, output_objects, segments
from control_plane.storage.database import Database, Unit
from control_plane.storage.object_store import ObjectStore
from control_plane.storage.output_files import OutputFiles
from control_plane.storage.output_objects import OutputObjects
from control_plane.storage.outputs import Writer, WriterFenced
from control_plane.storage.segments import Segment
from interlock.v1 import run_pb2
from tests.faults.wire import Wire
from tests.integration.runs.conftest import World
from tests.integration.storage import places
from tests.integration.storage.places import CountingStore, Place


@pytest.fixture
async def world(db: Database) -> World:
    made = World(db, Sealer(MasterKey(bytes(32))))
    await made.add_stack()
    return made


@pytest.fixture
async def place(tmp_path: Path, world: World, address: ObjectAddress) -> AsyncIterator[Place]:
    async with places.opened(tmp_path / "output", world, address) as made:
        yield made


@pytest.fixture
def bucket(address: ObjectAddress) -> CountingStore:
    return CountingStore(address)


@pytest.fixture
async def outputs(place: Place, bucket: CountingStore) -> OutputObjects:
    made = OutputObjects(place.world.db, bucket, OutputFiles(place.folder))
    place.serve(made)
    await made.open(place.run_id, place.writer)
    return made


async def rows(place: Place) -> list[Segment]:
    return list(await place.world.db.read(lambda tx: segments.behind(tx, place.run_id, 0)))


async def test_a_few_lines_take_one_segment(
    place: Place, outputs: OutputObjects, bucket: CountingStore
) -> None:
    for number in range(10):
        await outputs.append(place.run_id, number * 5, b"line\n")
    await outputs.flush(place.run_id)
    [segment] = await rows(place)
    assert bucket.puts == [segment.key]
    assert (segment.size_bytes, segment.fence) == (50, place.writer.fence)
    assert segment.sha256 == segment.output_sha256 == hashlib.sha256(b"line\n" * 10).hexdigest()


async def test_a_line_that_nobody_waits_for_is_stored_after_a_moment(
    place: Place, outputs: OutputObjects
) -> None:
    stored = asyncio.Event()
    outputs.on_stored = lambda _: stored.set()
    await outputs.append(place.run_id, 0, b"line\n")
    begin = time.monotonic()
    async with asyncio.timeout(10):
        await stored.wait()
    assert time.monotonic() - begin >= output_objects.SEGMENT_AGE_S * 0.9
    assert [segment.size_bytes for segment in await rows(place)] == [5]


@pytest.mark.parametrize("stale", ["fence", "assignment", "over"])
async def test_who_has_not_the_runs_slot_any_more_adds_no_segment(
    place: Place, outputs: OutputObjects, stale: str
) -> None:
    await outputs.append(place.run_id, 0, b"own")
    await outputs.flush(place.run_id)
    match stale:
        case "fence":
            await place.world.db.write(
                lambda tx: store.update(tx, place.run_id, fence=place.writer.fence + 1)
            )
        case "assignment":
            await place.world.db.write(lambda tx: store.update(tx, place.run_id, assignment_id="asg_other"))
        case _:
            await place.world.db.write(lambda tx: end(tx, place.run_id))
    await outputs.append(place.run_id, 3, b" and late")
    with pytest.raises(WriterFenced):
        await outputs.flush(place.run_id)
    with pytest.raises(WriterFenced):
        await outputs.make_room(place.run_id, 1)
    assert [segment.size_bytes for segment in await rows(place)] == [3]


async def test_what_an_abandoned_runs_runner_adds_is_kept_behind_its_output(
    place: Place, outputs: OutputObjects
) -> None:
    await outputs.append(place.run_id, 0, b"own")
    await outputs.flush(place.run_id)
    await place.world.db.write(lambda tx: end(tx, place.run_id, run_pb2.RUN_FAILURE_ABANDONED))
    await outputs.append(place.run_id, 3, b" and late")
    await outputs.flush(place.run_id)
    assert [segment.size_bytes for segment in await rows(place)] == [3, 9]


def end(
    tx: sa.Connection,
    run_id: str,
    failure: run_pb2.RunFailure.ValueType = run_pb2.RUN_FAILURE_UNSPECIFIED,
) -> None:
    run = store.find_to_move(tx, run_id)
    assert run is not None
    moves.end(tx, run, RunState.FAILED, "over", failure=failure)


async def test_the_next_assignment_goes_on_behind_what_the_last_one_stored_and_drops_the_rest(
    place: Place, outputs: OutputObjects
) -> None:
    await outputs.append(place.run_id, 0, b"stored")
    await outputs.flush(place.run_id)
    await outputs.append(place.run_id, 6, b"not acknowledged")
    next_one = Writer("asg_next", place.writer.fence + 1)
    await place.world.db.write(
        lambda tx: store.update(tx, place.run_id, assignment_id=next_one.assignment_id, fence=next_one.fence)
    )
    output = await outputs.open(place.run_id, next_one)
    assert output.size_bytes == 6
    await outputs.append(place.run_id, 6, b" anew")
    await outputs.flush(place.run_id)
    assert [(segment.offset, segment.fence) for segment in await rows(place)] == [
        (0, place.writer.fence),
        (6, next_one.fence),
    ]


@pytest.mark.parametrize("how", ["gone", "hangs"])
async def test_a_store_that_is_away_holds_output_back_and_loses_none_of_it(
    place: Place, address: ObjectAddress, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(output_objects, "RETRY_S", 0.01)
    if how == "hangs":
        monkeypatch.setattr(object_store, "REQUEST_S", 0.2)

    async def away(wire: Wire) -> None:
        if how == "gone":
            await wire.cut()
        else:
            wire.hold()

    async with Wire(address.endpoint.removeprefix("http://")) as wire:
        through = dataclasses.replace(address, endpoint=f"http://{wire.address}")
        outputs = OutputObjects(place.world.db, ObjectStore(through), OutputFiles(place.folder))
        place.serve(outputs)
        await outputs.open(place.run_id, place.writer)
        with structlog.testing.capture_logs() as logged:
            await away(wire)
            await outputs.append(place.run_id, 0, b"waits")
            with pytest.raises(errors.ObjectStoreUnavailable, match="object store cannot be used") as raised:
                await outputs.flush(place.run_id)
            assert raised.value.details  # when to try again
            assert await rows(place) == []
            await wire.restore()
            await flushed(outputs, place.run_id)
        assert [entry["event"] for entry in logged if entry["event"].startswith("output.")] == [
            "output.store_away",
            "output.store_back",
        ]
        outputs.leave(place.run_id)
        assert await outputs.read(place.run_id, 0, 100) == b"waits"
        outputs = OutputObjects(place.world.db, ObjectStore(through), OutputFiles(place.folder))
        await away(wire)
        with pytest.raises(errors.ObjectStoreUnavailable):
            await outputs.read(place.run_id, 0, 100)


async def flushed(outputs: OutputObjects, run_id: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                return await outputs.flush(run_id)
            except errors.Unavailable:
                await asyncio.sleep(0.01)


async def test_a_bucket_that_is_not_there_is_named(address: ObjectAddress) -> None:
    nowhere = ObjectStore(dataclasses.replace(address, bucket="nowhere-at-all"))
    with pytest.raises(errors.ObjectStoreUnavailable, match="there is no bucket nowhere-at-all"):
        await nowhere.put("a", b"a")


async def test_while_the_database_is_away_an_object_is_put_once_and_gets_its_row_later(
    place: Place, outputs: OutputObjects, bucket: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_objects, "RETRY_S", 0.01)
    real_add = segments.add

    def away(*_: object, **__: object) -> bool:
        raise errors.DatabaseUnavailable("the database is away")

    monkeypatch.setattr(segments, "add", away)
    await outputs.append(place.run_id, 0, b"one")
    with pytest.raises(errors.DatabaseUnavailable):
        await outputs.flush(place.run_id)
    await outputs.append(place.run_id, 3, b" two")
    monkeypatch.setattr(segments, "add", real_add)
    await flushed(outputs, place.run_id)
    assert [segment.size_bytes for segment in await rows(place)] == [3, 4]
    assert len(bucket.puts) == 2


async def test_a_row_whose_commit_was_not_answered_is_found_and_not_added_twice(
    place: Place, outputs: OutputObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_objects, "RETRY_S", 0.01)
    write = place.world.db.write

    async def unanswered(unit: Unit[bool]) -> bool:
        monkeypatch.setattr(place.world.db, "write", write)
        await write(unit)
        raise errors.DatabaseUnavailable("whether this change was made is not known")

    monkeypatch.setattr(place.world.db, "write", unanswered)
    await outputs.append(place.run_id, 0, b"once")
    with pytest.raises(errors.DatabaseUnavailable):
        await outputs.flush(place.run_id)
    await outputs.append(place.run_id, 4, b" more")
    await flushed(outputs, place.run_id)
    assert [(segment.offset, segment.size_bytes) for segment in await rows(place)] == [(0, 4), (4, 5)]
    stored = await outputs.stored(place.run_id)
    assert stored.sha256 == hashlib.sha256(b"once more").hexdigest()


async def test_many_who_read_the_same_fetch_it_once(place: Place, outputs: OutputObjects) -> None:
    await outputs.append(place.run_id, 0, b"watched by many")
    await outputs.flush(place.run_id)
    counting = CountingStore(place.address) if place.address else None
    assert counting is not None
    elsewhere = OutputObjects(place.world.db, counting, OutputFiles(place.folder))
    read = await asyncio.gather(*(elsewhere.read(place.run_id, 0, 100) for _ in range(50)))
    assert read == [b"watched by many"] * 50
    assert len(counting.gets) == 1


async def test_many_who_wait_at_the_end_ask_the_database_as_often_as_one(
    place: Place, outputs: OutputObjects, bucket: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await outputs.append(place.run_id, 0, b"all")
    await outputs.flush(place.run_id)
    elsewhere = OutputObjects(place.world.db, bucket, OutputFiles(place.folder))
    asked: list[Unit[object]] = []
    read = place.world.db.read

    async def counted(unit: Unit[object]) -> object:
        asked.append(unit)
        return await read(unit)

    monkeypatch.setattr(place.world.db, "read", counted)
    assert await elsewhere.read(place.run_id, 3, 100) == b""
    of_one = len(asked)
    asked.clear()
    assert await asyncio.gather(*(elsewhere.read(place.run_id, 3, 100) for _ in range(50))) == [b""] * 50
    assert len(asked) <= of_one


async def test_a_watcher_elsewhere_sees_what_was_stored_while_others_looked(
    place: Place, outputs: OutputObjects, bucket: CountingStore
) -> None:
    elsewhere = OutputObjects(place.world.db, bucket, OutputFiles(place.folder))
    for number in range(5):
        looking = asyncio.create_task(elsewhere.read(place.run_id, number, 1))
        await outputs.append(place.run_id, number, b"x")
        await outputs.flush(place.run_id)
        # Behind the flush, whatever the other one has seen.
        assert await elsewhere.read(place.run_id, number, 1) == b"x"
        await looking


@pytest.mark.parametrize("harm", ["gone", "changed", "cut off"])
async def test_output_ends_where_an_object_was_harmed(
    place: Place, outputs: OutputObjects, bucket: CountingStore, harm: str
) -> None:
    for number in range(3):
        await outputs.append(place.run_id, 4 * number, b"abcd")
        await outputs.flush(place.run_id)
    key = (await rows(place))[1].key
    if harm == "gone":
        await bucket.remove(key)
    else:
        await bucket.put(key, b"abxd" if harm == "changed" else b"ab")
    elsewhere = OutputObjects(place.world.db, bucket, OutputFiles(place.folder))
    with structlog.testing.capture_logs() as logged:
        assert await elsewhere.read(place.run_id, 0, 100) == b"abcd"
        assert await elsewhere.read(place.run_id, 4, 100) == b""
    assert {entry["event"] for entry in logged} == {"output.damaged"}


async def test_output_that_began_in_a_file_goes_on_in_the_object_store(
    place: Place, bucket: CountingStore
) -> None:
    files = OutputFiles(place.folder)
    path = files.path(place.run_id)
    path.parent.mkdir()
    path.write_bytes(b"in a file")
    outputs = OutputObjects(place.world.db, bucket, files)
    place.serve(outputs)
    output = await outputs.open(place.run_id, place.writer)
    assert output.durable_sha256 == hashlib.sha256(b"in a file").hexdigest()
    await outputs.append(place.run_id, 7, b"le and more")
    await outputs.flush(place.run_id)
    assert [segment.offset for segment in await rows(place)] == [9]
    elsewhere = OutputObjects(place.world.db, bucket, files)
    parts = [await elsewhere.read(place.run_id, at, 100) for at in (0, 9, 14)]
    assert parts == [b"in a file", b" and more", b"more"]
    assert (await elsewhere.stored(place.run_id)).sha256 == hashlib.sha256(b"in a file and more").hexdigest()
