import hashlib
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from runner.errors import OutputDiffers, SpoolDamaged
from runner.spool import Spool

MAX_BYTES = 100
SEGMENT_BYTES = 16


class SpoolAgainstOneString(RuleBasedStateMachine):
    """Any order of appends, reads and frees agrees with one long string."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.spool = Spool(self.folder, max_bytes=MAX_BYTES, segment_bytes=SEGMENT_BYTES)
        self.output = b""

    @rule(data=st.binary(max_size=60))
    def append(self, data: bytes) -> None:
        room = MAX_BYTES - (len(self.output) - self.spool.freed)
        taken = self.spool.append(data)
        assert taken == min(len(data), room)
        self.output += data[:taken]

    @rule(share=st.floats(0, 1), limit=st.integers(1, 64))
    def read(self, share: float, limit: int) -> None:
        offset = self.spool.freed + round(share * (self.spool.size - self.spool.freed))
        data = self.spool.read(offset, limit)
        assert data == self.output[offset : offset + len(data)]
        assert len(data) <= limit
        assert data or offset == self.spool.size

    @precondition(lambda self: self.output)
    @rule(share=st.floats(0, 1))
    def free(self, share: float) -> None:
        before = self.spool.freed
        self.spool.free(round(share * len(self.output)))
        assert self.spool.freed == max(before, round(share * len(self.output)))

    @invariant()
    def counts_and_hashes_everything(self) -> None:
        assert self.spool.size == len(self.output)
        assert self.spool.sha256 == hashlib.sha256(self.output).hexdigest()

    def teardown(self) -> None:
        self.spool.remove()
        assert not self.folder.exists()


def test_any_use_of_a_spool_agrees_with_one_string(tmp_path: Path) -> None:
    run_state_machine_as_test(type("Machine", (SpoolAgainstOneString,), {"folder": tmp_path / "spool"}))


@given(output=st.binary(max_size=80), start=st.integers(0, 80), cut=st.integers(1, 30))
def test_a_spool_that_starts_later_hashes_what_came_before_and_keeps_the_rest(
    tmp_path_factory: pytest.TempPathFactory, output: bytes, start: int, cut: int
) -> None:
    spool = Spool(
        tmp_path_factory.mktemp("spool") / "s",
        max_bytes=MAX_BYTES,
        segment_bytes=SEGMENT_BYTES,
        start=start,
        start_sha256=hashlib.sha256(output[:start]).hexdigest(),
    )
    for position in range(0, len(output), cut):
        piece = output[position : position + cut]
        assert spool.append(piece) == len(piece)
    assert spool.sha256 == hashlib.sha256(output).hexdigest()
    if start <= len(output):
        assert _everything(spool) == output[start:]
    spool.remove()


def test_other_bytes_than_were_acknowledged_are_refused_before_one_behind_them_is_kept(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path / "s", max_bytes=1000, start=3, start_sha256=hashlib.sha256(b"abc").hexdigest())
    assert spool.append(b"ab") == 2
    with pytest.raises(OutputDiffers, match="behind byte 3"):
        spool.append(b"Xdef")
    assert spool.size == 3
    spool.remove()


def test_acknowledged_segments_leave_the_disk(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", max_bytes=1000, segment_bytes=SEGMENT_BYTES)
    spool.append(bytes(SEGMENT_BYTES * 5))
    spool.free(SEGMENT_BYTES * 3 + 1)
    assert len(list((tmp_path / "s").iterdir())) == 2
    spool.remove()


def test_a_freed_byte_is_refused_and_not_invented(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", max_bytes=1000)
    spool.append(b"abc")
    spool.free(2)
    with pytest.raises(ValueError, match="not between 2 and 3"):
        spool.read(1, 10)
    with pytest.raises(ValueError, match="past the end"):
        spool.free(4)
    spool.remove()


def test_what_an_earlier_process_left_is_thrown_away(tmp_path: Path) -> None:
    earlier = Spool(tmp_path / "s", max_bytes=1000)
    earlier.append(b"old")
    earlier.close()
    spool = Spool(tmp_path / "s", max_bytes=1000)
    assert spool.size == 0
    assert not (tmp_path / "s").exists()
    spool.remove()


def test_a_bit_that_the_disk_flipped_is_never_given_out(tmp_path: Path) -> None:
    whole = random.Random(1).randbytes(200_000)
    spool = Spool(tmp_path / "spool", max_bytes=1 << 20)
    assert spool.append(whole) == len(whole)
    [file] = (tmp_path / "spool").iterdir()
    for place in (0, 65_535, 65_536, 150_000, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        file.write_bytes(damaged)
        with pytest.raises(SpoolDamaged, match="Start the runner again") as raised:
            spool.read(max(place - 10, 0), 100)
        assert str(file) in raised.value.message
    file.write_bytes(whole[:-1])
    with pytest.raises(SpoolDamaged):
        spool.read(len(whole) - 10, 10)
    file.write_bytes(whole)
    assert spool.read(70_000, 100_000) == whole[70_000:170_000]


def _everything(spool: Spool) -> bytes:
    parts = []
    offset = spool.freed
    while part := spool.read(offset, 7):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)
