"""Compressed output: any byte can be read, only what is needed is read, and no damaged byte passes for output."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from control_plane.storage import seekable

# Output as commands write it: lines that repeat, and some that do not compress.
_LINES = [b"Refreshing state... [id=%d]\n" % number for number in range(20)] + [os.urandom(300)]
SMALL_FRAME_BYTES = 1000


@contextmanager
def compressed(content: bytes, folder: Path) -> Iterator[int]:
    path = folder / "output.zst"
    with path.open("wb") as file:
        writer = seekable.Writer(file)
        for start in range(0, len(content), 777):
            writer.write(content[start : start + 777])
        writer.finish()
    opened = os.open(path, os.O_RDONLY)
    try:
        yield opened
    finally:
        os.close(opened)


def written(parts: list[int], count: int) -> bytes:
    return (b"".join(_LINES[part] for part in parts) * count)[:20_000]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    patch = pytest.MonkeyPatch()
    patch.setattr(seekable, "FRAME_BYTES", SMALL_FRAME_BYTES)
    yield tmp_path_factory.mktemp("seekable")
    patch.undo()


@given(
    parts=st.lists(st.integers(0, len(_LINES) - 1), max_size=20),
    count=st.integers(1, 40),
    offset=st.integers(0, 21_000),
    length=st.integers(0, 5_000),
)
def test_any_bytes_are_read_as_they_were_written(
    folder: Path, parts: list[int], count: int, offset: int, length: int
) -> None:
    content = written(parts, count)
    with compressed(content, folder) as file:
        table = seekable.read_table(file)
        assert table.size_bytes == len(content)
        assert seekable.read(file, table, offset, length) == content[offset : offset + length]
        assert b"".join(seekable.blocks(file)) == content


@given(position=st.integers(0, 1 << 20), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_found_or_harmless(folder: Path, position: int, bit: int) -> None:
    content = written(list(range(len(_LINES))), 8)
    with compressed(content, folder):
        path = folder / "output.zst"
        damaged = bytearray(path.read_bytes())
        damaged[position % len(damaged)] ^= 1 << bit
        path.write_bytes(damaged)
        with path.open("rb") as file:
            try:
                found = b"".join(seekable.blocks(file.fileno()))
            except seekable.Damaged:
                return
            # A few bits of a frame's header say nothing about its content.
            assert found == content


@given(kept=st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_off_is_no_output(folder: Path, kept: float) -> None:
    content = written(list(range(len(_LINES))), 8)
    with compressed(content, folder):
        path = folder / "output.zst"
        os.truncate(path, int(path.stat().st_size * kept))
        with path.open("rb") as file, pytest.raises(seekable.Damaged):
            seekable.read_table(file.fileno())


def test_a_byte_in_the_middle_costs_one_frame(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(50 * SMALL_FRAME_BYTES)
    with compressed(content, folder) as file:
        table = seekable.read_table(file)
        read: list[int] = []
        original = os.pread

        def counting(descriptor: int, length: int, offset: int) -> bytes:
            data = original(descriptor, length, offset)
            read.append(len(data))
            return data

        monkeypatch.setattr(os, "pread", counting)
        middle = 25 * SMALL_FRAME_BYTES + 10
        assert seekable.read(file, table, middle, 100) == content[middle : middle + 100]
        assert sum(read) < 1.1 * SMALL_FRAME_BYTES


def test_the_usual_tools_read_it(folder: Path) -> None:
    content = written(list(range(len(_LINES))), 8)
    with compressed(content, folder):
        whole = io.BytesIO((folder / "output.zst").read_bytes())
        reader = zstandard.ZstdDecompressor().stream_reader(whole, read_across_frames=True)
        assert reader.read() == content
