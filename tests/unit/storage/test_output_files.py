"""Invariant 4: what was acknowledged is on the disk, nothing appears twice, nothing is left out."""

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.storage import output_files
from control_plane.storage import outputs as limits
from control_plane.storage.output_files import DiskStalled, FileOutput, OutputFiles
from control_plane.storage.outputs import PENDING_BYTES, READ_BLOCK_BYTES, OutputGap

RUN = "run_00000000000000000000000001"
OTHER_RUN = "run_00000000000000000000000002"


@pytest.fixture
async def outputs(tmp_path: Path) -> AsyncIterator[OutputFiles]:
    files = OutputFiles(tmp_path / "output")
    serving = asyncio.create_task(files.serve())
    await files.open(RUN)
    yield files
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_flushed_output_is_in_the_file_with_its_digest(outputs: OutputFiles) -> None:
    await outputs.append(RUN, 0, b"one ")
    await outputs.append(RUN, 4, b"two")
    await outputs.flush(RUN)
    output = await outputs.open(RUN)
    assert outputs.path(RUN).read_bytes() == b"one two"
    assert (output.durable_bytes, output.durable_sha256) == (7, hashlib.sha256(b"one two").hexdigest())


async def test_bytes_sent_again_are_passed_over(outputs: OutputFiles) -> None:
    await outputs.append(RUN, 0, b"abcdef")
    assert not await outputs.append(RUN, 2, b"cd")
    assert await outputs.append(RUN, 4, b"efgh")
    await outputs.flush(RUN)
    assert outputs.path(RUN).read_bytes() == b"abcdefgh"


async def test_bytes_sent_again_after_they_left_memory_are_compared_with_the_file(
    outputs: OutputFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECENT_BYTES", 4)
    for offset in range(0, 40, 4):
        await outputs.append(RUN, offset, b"abcd")
        await outputs.flush(RUN)
    assert not await outputs.append(RUN, 0, b"abcdabcd")
    with pytest.raises(OutputGap, match="differ"):
        await outputs.append(RUN, 4, b"xbcd")


async def test_a_gap_is_refused(outputs: OutputFiles) -> None:
    await outputs.append(RUN, 0, b"abc")
    with pytest.raises(OutputGap, match="only 3 are here"):
        await outputs.append(RUN, 4, b"e")


async def test_other_bytes_at_the_same_place_are_refused(outputs: OutputFiles) -> None:
    await outputs.append(RUN, 0, b"abc")
    with pytest.raises(OutputGap, match="differ"):
        await outputs.append(RUN, 1, b"xcd")
    assert await outputs.read(RUN, 0, 100) == b"abc"


async def test_a_new_process_finds_what_the_last_one_stored(outputs: OutputFiles, tmp_path: Path) -> None:
    await outputs.append(RUN, 0, b"kept")
    await outputs.flush(RUN)
    again = await OutputFiles(tmp_path / "output").open(RUN)
    assert (again.size_bytes, again.durable_sha256) == (4, hashlib.sha256(b"kept").hexdigest())


async def test_a_full_disk_holds_output_back_and_loses_none_of_it(
    outputs: OutputFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_files, "DISK_RETRY_S", 0.01)
    real_write = os.pwrite

    def full_disk(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full_disk)
    await outputs.append(RUN, 0, b"waits")
    with pytest.raises(DiskStalled):
        await outputs.flush(RUN)
    assert outputs.disk_full
    monkeypatch.setattr(os, "pwrite", real_write)
    while outputs.disk_full:
        await asyncio.sleep(0)
    await outputs.flush(RUN)
    assert outputs.path(RUN).read_bytes() == b"waits"


async def test_a_read_that_is_overtaken_by_the_end_of_the_run_never_gives_another_runs_bytes(
    outputs: OutputFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECENT_BYTES", 4)
    await outputs.append(RUN, 0, b"mine")
    await outputs.append(RUN, 4, b"more")
    await outputs.flush(RUN)
    may_read = asyncio.Event()

    async def late(read: Callable[..., bytes], *arguments: object) -> bytes:
        await may_read.wait()
        return read(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "to_thread", late)
        reading = asyncio.create_task(outputs.read(RUN, 0, 4))
        await asyncio.sleep(0)
        outputs.release(RUN)
        other = FileOutput(OTHER_RUN, outputs.path(OTHER_RUN))
        other.write(b"theirs")
        may_read.set()
        assert await reading == b"mine"
    other.close()


async def test_output_that_was_cut_off_under_the_server_is_a_gap(
    outputs: OutputFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECENT_BYTES", 4)
    await outputs.append(RUN, 0, b"abcd")
    await outputs.append(RUN, 4, b"efgh")
    await outputs.flush(RUN)
    os.truncate(outputs.path(RUN), 0)
    with pytest.raises(OutputGap, match="differ"):
        await outputs.append(RUN, 0, b"abcd")


async def test_more_than_may_be_pending_waits_for_the_disk(outputs: OutputFiles) -> None:
    block = bytes(READ_BLOCK_BYTES)
    output = await outputs.open(RUN)
    for _ in range(3 * PENDING_BYTES // len(block)):
        await outputs.make_room(RUN, len(block))
        await outputs.append(RUN, output.size_bytes, block)
        assert output.size_bytes - output.durable_bytes <= PENDING_BYTES


@given(
    data=st.binary(max_size=200),
    chunks=st.lists(st.tuples(st.integers(0, 200), st.integers(1, 60)), max_size=30),
)
def test_any_repetition_of_chunks_gives_the_bytes_once(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, chunks: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("run") / "log"
    output = FileOutput(RUN, path)
    reached = 0
    for start, length in chunks:
        piece = data[start : start + length]
        if start > reached:
            with pytest.raises(OutputGap):
                output.append(start, piece or b"x")
            continue
        output.append(start, piece)
        reached = max(reached, start + len(piece))
        if pending := output.pending():
            output.write(pending)
            output.settle(len(pending), output.on_disk.sha256)
    output.close()
    assert output.size_bytes == output.durable_bytes == reached
    assert (path.read_bytes() if path.exists() else b"") == data[:reached]
