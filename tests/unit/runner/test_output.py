import asyncio
import hashlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import OutputDiffers
from runner.masking import Masker
from runner.output import Behind, Output, Sink, Store
from runner.phases import PhaseEvent, mark
from runner.spool import Spool

NONCE = "n0nce"
SECRETS = [b"hunter2", b"second-secret"]


def _mark(text: str) -> bytes:
    return mark(NONCE, text).encode() + b"\n"


WRITTEN = b"".join([
    _mark("begin initializing"), _mark("step init 0"), b"init hunter2 no newline",
    _mark("gate"),
    _mark("begin performing"), _mark("step command 0"),
    b"::add-mask::later\nlater and hunter2\nhunt", b"er2 second-sec",
    _mark("end 0"),
    _mark("begin finishing"), _mark("step after_run 0"), b"bye later",
    _mark("end 0"),
])  # fmt: skip
MASKED = b"init *** no newline::add-mask::***\n*** and ***\n*** ***bye ***"


class Chunks:
    """An output stream of bytes cut at the given places."""

    def __init__(self, data: bytes, cuts: list[int]) -> None:
        places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
        self._chunks = iter([data[start:end] for start, end in pairwise(places)])

    async def read(self) -> bytes:
        return next(self._chunks, b"")

    async def close(self) -> None:
        """Nothing is open."""


class Kept:
    """A sink that takes at most `room` bytes at a time."""

    def __init__(self, room: int) -> None:
        self.data = b""
        self._room = room

    def append(self, data: bytes) -> int:
        self.data += data[: self._room]
        return len(data[: self._room])


async def _pass_through(
    sink: Sink, cuts: list[int], written: bytes = WRITTEN
) -> tuple[list[PhaseEvent], list[bool]]:
    events: list[PhaseEvent] = []
    held: list[bool] = []
    room = asyncio.Event()
    store = Store(room=room, on_stored=room.set, on_held=held.append)
    output = Output(nonce=NONCE, masker=Masker(SECRETS), sink=sink, store=store, on_event=events.append)
    await output.drain(Chunks(written, cuts))
    await output.finish()
    return events, held


@given(cuts=st.lists(st.integers(0, 10_000), max_size=40))
def test_however_the_output_is_cut_the_masked_bytes_and_the_marks_are_the_same(cuts: list[int]) -> None:
    sink = Kept(1 << 20)
    events, _ = asyncio.run(_pass_through(sink, cuts))
    assert sink.data == MASKED
    assert len(events) == 10


@given(room=st.integers(1, 9))
def test_what_finds_no_room_is_kept_and_put_when_there_is_some(room: int) -> None:
    sink = Kept(room)
    _, held = asyncio.run(_pass_through(sink, []))
    assert sink.data == MASKED
    assert held[:2] == [True, False]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool", max_bytes=1 << 20)
    yield spool
    spool.remove()


@pytest.mark.parametrize("known", [0, 1, 20, len(MASKED) - 1, len(MASKED)])
async def test_a_replay_adds_only_what_is_missing(spool: Spool, known: int) -> None:
    spool.append(MASKED[:known])
    await _pass_through(Behind(spool), [7, 30, 90])
    assert spool.size == len(MASKED)
    assert spool.sha256 == hashlib.sha256(MASKED).hexdigest()


async def test_a_replay_that_differs_adds_nothing(spool: Spool) -> None:
    spool.append(b"INIT" + MASKED[4:20])
    with pytest.raises(OutputDiffers) as differs:
        await _pass_through(Behind(spool), [])
    assert differs.value.size_bytes == spool.size == 20


async def test_a_secret_too_short_to_add_is_left_alone_and_hides_nothing_else(spool: Spool) -> None:
    await _pass_through(spool, [], b"::add-mask::ab\nabcdef\n")
    assert spool.read(0, 100) == b"::add-mask::***\nabcdef\n"
