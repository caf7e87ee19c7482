import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from interlock.v1.run_pb2 import RUN_STATE_INITIALIZING
from interlock.v1.runner_service_pb2 import AssignmentRef, ConnectRequest, RunResult
from runner.report import MAX_CHUNK_BYTES, Report
from runner.spool import Spool

REF = AssignmentRef(run_id="run_1", assignment_id="asg_1", fencing_token=3)


class Stream:
    """What a report tells, message by message."""

    def __init__(self, report: Report) -> None:
        self._told: asyncio.Queue[ConnectRequest] = asyncio.Queue()
        self._telling = asyncio.create_task(report.tell(self._told.put))

    async def next(self) -> ConnectRequest:
        async with asyncio.timeout(30):
            return await self._told.get()

    async def output(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += (await self.next()).output.data
        return data

    async def kinds(self, count: int) -> list[str | None]:
        return [(await self.next()).WhichOneof("message") for _ in range(count)]

    @property
    def is_silent(self) -> bool:
        return self._told.empty()

    async def end(self) -> None:
        self._telling.cancel()
        await asyncio.gather(self._telling, return_exceptions=True)


@pytest.fixture
async def report(tmp_path: Path) -> AsyncIterator[Report]:
    spool = Spool(tmp_path / "spool", max_bytes=1 << 20)
    yield Report(assignment=REF, spool=spool)
    spool.remove()


async def test_nothing_is_told_before_the_assignment_is_in_the_journal(report: Report) -> None:
    stream = Stream(report)
    report.spool.append(b"early")
    report.change()
    await asyncio.sleep(0.1)
    assert stream.is_silent
    report.accepted = True
    report.change()
    assert await stream.kinds(2) == ["accepted", "output"]
    await stream.end()


async def test_steps_come_in_order_and_the_result_after_the_last_byte(report: Report) -> None:
    report.accepted, report.phase, report.is_at_gate = True, RUN_STATE_INITIALIZING, True
    report.spool.append(b"x" * (MAX_CHUNK_BYTES + 1))
    report.result = RunResult(assignment=REF)
    stream = Stream(report)
    assert await stream.kinds(6) == ["accepted", "phase", "output", "output", "gate", "result"]
    await stream.end()


async def test_a_result_is_repeated_until_it_is_settled(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.report._REPEAT_RESULT_S", 0.05)
    report.accepted = True
    report.result = RunResult(assignment=REF)
    stream = Stream(report)
    assert await stream.kinds(4) == ["accepted", "result", "result", "result"]
    await stream.end()


async def test_a_new_stream_begins_where_the_control_plane_stands_and_asks_at_the_gate_again(
    report: Report,
) -> None:
    report.accepted, report.is_at_gate = True, True
    report.spool.append(b"0123456789")
    first = Stream(report)
    assert await first.kinds(3) == ["accepted", "output", "gate"]
    await first.end()
    report.begin_stream()
    report.continue_from(4)
    second = Stream(report)
    output = (await second.next()).output
    assert (output.offset, output.data) == (4, b"456789")
    assert (await second.next()).WhichOneof("message") == "gate"
    await second.end()


async def test_what_was_acknowledged_leaves_the_spool_and_is_not_sent_again(report: Report) -> None:
    report.accepted = True
    report.spool.append(b"0123456789")
    report.output_acknowledged(6)
    stream = Stream(report)
    assert await stream.kinds(1) == ["accepted"]
    assert await stream.output(4) == b"6789"
    assert report.spool.freed == 6
    assert report.room.is_set()
    await stream.end()


async def test_refused_output_is_sent_again_from_where_it_was_refused_and_not_at_once(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.report._REFUSED_PAUSE_S", 0.3)
    report.accepted = True
    report.spool.append(b"0123456789")
    stream = Stream(report)
    await stream.kinds(2)
    report.refused(3)
    await asyncio.sleep(0.1)
    assert stream.is_silent
    assert await stream.kinds(1) == ["accepted"]
    assert await stream.output(7) == b"3456789"
    await stream.end()


async def test_a_control_plane_that_forgot_acknowledged_bytes_breaks_nothing(report: Report) -> None:
    report.accepted = True
    report.spool.append(b"0123456789")
    report.output_acknowledged(6)
    report.begin_stream()
    report.continue_from(2)
    stream = Stream(report)
    assert await stream.output(4) == b"6789"
    await stream.end()


async def test_small_pieces_are_put_together_and_the_first_goes_at_once(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.report._COALESCE_S", 0.2)
    report.accepted = True
    stream = Stream(report)
    await stream.next()
    for piece in (b"a", b"b", b"c"):
        report.spool.append(piece)
        report.change()
        await asyncio.sleep(0.01)
    assert (await stream.next()).output.data == b"a"
    assert (await stream.next()).output.data == b"bc"
    await stream.end()


async def test_nothing_behind_the_bound_is_sent(report: Report) -> None:
    report.accepted = True
    report.spool.append(b"0123456789")
    report.output_end = 4
    report.result = RunResult(assignment=REF)
    stream = Stream(report)
    await stream.next()
    assert (await stream.next()).output.data == b"0123"
    assert (await stream.next()).WhichOneof("message") == "result"
    await stream.end()
