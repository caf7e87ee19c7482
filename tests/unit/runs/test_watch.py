"""Watchers are cursors: they see each byte once, and are asked again whether they may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from control_plane.errors import ShuttingDown
from control_plane.runs.errors import OffsetPastEnd, OutputMissing
from control_plane.runs.feeds import CAPACITY_PAUSE_S, Feeds
from control_plane.runs.queries import Queries
from control_plane.runs.watch import Watches
from control_plane.storage.output_files import OutputFiles
from interlock.v1 import run_pb2
from interlock.v1 import run_service_pb2 as rpc

RUN = "run_00000000000000000000000001"


class Record:
    """Stands for the database: the run as it is now."""

    def __init__(self) -> None:
        self.run = run_pb2.Run(id=RUN, state=run_pb2.RUN_STATE_PERFORMING)
        self.loads = 0

    async def load(self, run_id: str) -> run_pb2.Run:
        assert run_id == RUN
        self.loads += 1
        await asyncio.sleep(0)
        copy = run_pb2.Run()
        copy.CopyFrom(self.run)
        return copy


class Stage:
    def __init__(self, folder: Path, recheck_s: float) -> None:
        self.record = Record()
        self.feeds = Feeds()
        self.outputs = OutputFiles(folder)
        self.watches = Watches(self.feeds, self.outputs, cast("Queries", self.record), recheck_s=recheck_s)
        self.refusal: Exception | None = None

    def watch(self, offset: int = 0) -> AsyncIterator[rpc.WatchRunResponse | bytes]:
        return self.watches.watch(RUN, "stack", offset, omit_output=False, recheck=self._recheck)

    async def append(self, data: bytes) -> None:
        output = await self.outputs.open(RUN)
        await self.outputs.append(RUN, output.size_bytes, data)
        self.feeds.output_grew(RUN)

    def end(self, size: int) -> None:
        self.record.run.state = run_pb2.RUN_STATE_FINISHED
        self.record.run.output_size_bytes = size
        self.feeds.run_changed(RUN)

    async def _recheck(self) -> None:
        if self.refusal is not None:
            raise self.refusal


def parsed(message: rpc.WatchRunResponse | bytes) -> rpc.WatchRunResponse:
    return rpc.WatchRunResponse.FromString(message) if isinstance(message, bytes) else message


async def seen(watching: AsyncIterator[rpc.WatchRunResponse | bytes]) -> tuple[bytes, list[str]]:
    output, states = b"", []
    async for message in watching:
        event = parsed(message)
        if event.HasField("run"):
            states.append(run_pb2.RunState.Name(event.run.state))
        else:
            assert event.output.offset == len(output)
            output += event.output.data
    return output, states


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, recheck_s=60)


async def test_many_watchers_see_every_byte_once_and_the_final_state_last(stage: Stage) -> None:
    await stage.outputs.open(RUN)
    watching = [asyncio.create_task(seen(stage.watch())) for _ in range(50)]
    for number in range(200):
        await stage.append(b"%d\n" % number)
        await asyncio.sleep(0)
    expected = b"".join(b"%d\n" % number for number in range(200))
    stage.end(len(expected))
    for output, states in await asyncio.gather(*watching):
        assert output == expected
        assert states == ["RUN_STATE_PERFORMING", "RUN_STATE_FINISHED"]


async def test_the_record_is_read_once_per_change_however_many_watch(stage: Stage) -> None:
    await stage.outputs.open(RUN)
    watching = [asyncio.create_task(seen(stage.watch())) for _ in range(100)]
    await asyncio.sleep(0.01)
    stage.end(0)
    await asyncio.gather(*watching)
    assert stage.record.loads == 2


@pytest.mark.parametrize(
    ("reason", "loads"),
    [
        (run_pb2.WAIT_REASON_NO_CAPACITY, 3),
        (run_pb2.WAIT_REASON_UNSPECIFIED, 3),
        (run_pb2.WAIT_REASON_SLOT_TAKEN, 2),
        (run_pb2.WAIT_REASON_STACK_LOCKED, 2),
    ],
)
async def test_runners_that_come_and_go_concern_only_runs_that_wait_for_them(
    stage: Stage, reason: run_pb2.WaitReason.ValueType, loads: int
) -> None:
    stage.record.run.state = run_pb2.RUN_STATE_QUEUED
    stage.record.run.waiting.reason = reason
    watching = stage.watch()
    assert parsed(await anext(watching)).run.waiting.reason == reason

    waiting = asyncio.create_task(seen(watching))
    for _ in range(100):
        stage.feeds.capacity_changed()
    told = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(2 * CAPACITY_PAUSE_S, told.set_result, None)
    await told
    stage.end(0)
    await waiting

    assert stage.record.loads == loads


async def test_a_watcher_whose_access_has_ended_is_cut_off(tmp_path: Path) -> None:
    stage = Stage(tmp_path, recheck_s=0.01)
    stage.refusal = PermissionError("the token has ended")
    with pytest.raises(PermissionError):
        await seen(stage.watch())


@pytest.mark.parametrize("what", ["output", "changes"])
async def test_a_watcher_whose_access_has_ended_is_cut_off_however_much_there_is_to_tell(
    tmp_path: Path, what: str
) -> None:
    stage = Stage(tmp_path, recheck_s=0.01)
    stage.refusal = PermissionError("the token has ended")
    await stage.outputs.open(RUN)

    async def always_told() -> None:
        async for _ in stage.watch():
            if what == "output":
                await stage.append(b"more\n")
            else:
                stage.feeds.run_changed(RUN)
            await asyncio.sleep(0)

    # Without end, where nobody asks.
    async with asyncio.timeout(10):
        with pytest.raises(PermissionError):
            await always_told()


async def test_output_that_is_missing_is_an_error_and_not_an_endless_wait(stage: Stage) -> None:
    stage.end(10)
    with pytest.raises(OutputMissing, match="ends at byte 0, and its record says 10"):
        await seen(stage.watch())


@pytest.mark.parametrize("offset", [0, 14])
async def test_what_another_control_plane_has_stored_since_is_seen_once_the_run_is_over(
    stage: Stage, tmp_path: Path, offset: int
) -> None:
    await stage.append(b"opened here")
    async with serving(stage.outputs):
        await stage.outputs.flush(RUN)
    other = OutputFiles(tmp_path)
    await other.open(RUN)
    async with serving(other):
        await other.append(RUN, 11, b", ended there")
        await other.flush(RUN)
    stage.end(24)
    chunks = [parsed(message).output async for message in stage.watch(offset)]
    assert b"".join(chunk.data for chunk in chunks) == b"opened here, ended there"[offset:]


@asynccontextmanager
async def serving(outputs: OutputFiles) -> AsyncIterator[None]:
    flushing = asyncio.create_task(outputs.serve())
    yield
    flushing.cancel()
    await asyncio.gather(flushing, return_exceptions=True)


async def test_an_offset_past_the_end_is_refused(stage: Stage) -> None:
    stage.end(0)
    with pytest.raises(OffsetPastEnd):
        await seen(stage.watch(offset=1))


async def test_a_watcher_is_told_when_the_server_shuts_down(stage: Stage) -> None:
    await stage.outputs.open(RUN)
    watching = asyncio.create_task(seen(stage.watch()))
    await asyncio.sleep(0.01)
    stage.watches.close()
    with pytest.raises(ShuttingDown):
        await watching


async def test_a_feed_is_forgotten_with_its_last_watcher(stage: Stage) -> None:
    stage.end(0)
    await asyncio.gather(*(seen(stage.watch()) for _ in range(3)))
    assert stage.feeds._feeds == {}
    assert stage.feeds._of_stack == {}
