"""Compressed output that can be read from any byte: the seekable format of Zstandard, version 0.1.1
(https://github.com/facebook/zstd/blob/dev/contrib/seekable_format/zstd_seekable_compression_format.md).

Independent frames of FRAME_BYTES of output each, with a checksum each, then a table of their sizes in a skippable frame:
`zstd -dc` reads such a file as any other. What takes a file blocks.
"""

from __future__ import annotations

import os
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

import zstandard

# What is decompressed to read one byte; as much as a watcher is sent at once.
FRAME_BYTES: Final = 256 << 10
_LEVEL: Final = 3
_SKIPPABLE_MAGIC: Final = 0x184D2A5E
_SEEKABLE_MAGIC: Final = 0x8F92EAB1
_HEADER: Final = struct.Struct("<II")  # magic, length of what follows
_ENTRY: Final = struct.Struct("<II")  # a frame's length, compressed and not
_FOOTER: Final = struct.Struct("<IBI")  # frames, flags, magic
FOOTER_BYTES: Final = _FOOTER.size


class Damaged(Exception):
    """This is no file of this format, or it was cut off or changed; the message says where."""


@dataclass(frozen=True, slots=True)
class Table:
    """Where each frame begins, in the file and in the output; one more entry for the end."""

    starts: array[int]
    offsets: array[int]

    @property
    def size_bytes(self) -> int:
        """Of the output."""
        return self.offsets[-1]

    def frame_of(self, offset: int) -> int:
        """The frame that holds this byte."""
        return bisect_right(self.offsets, offset) - 1

    def frame_end(self, offset: int) -> int:
        """Where the frame that holds this byte ends; the end of the output for what is behind it."""
        index = self.frame_of(offset) + 1
        return self.offsets[index] if index < len(self.offsets) else self.size_bytes


class Writer:
    """Compresses what it is given, frame by frame. Nothing is whole before `finish`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._compressor = zstandard.ZstdCompressor(
            level=_LEVEL, write_checksum=True, write_content_size=True
        )
        self._waiting = bytearray()
        self._entries = bytearray()

    def write(self, data: bytes) -> None:
        self._waiting += data
        while len(self._waiting) >= FRAME_BYTES:
            self._put_frame(bytes(self._waiting[:FRAME_BYTES]))
            del self._waiting[:FRAME_BYTES]

    def finish(self) -> None:
        """Writes the last frame and the table. The file is neither flushed nor closed."""
        if self._waiting:
            self._put_frame(bytes(self._waiting))
            self._waiting.clear()
        footer = _FOOTER.pack(len(self._entries) // _ENTRY.size, 0, _SEEKABLE_MAGIC)
        header = _HEADER.pack(_SKIPPABLE_MAGIC, len(self._entries) + len(footer))
        self._file.write(header + self._entries + footer)

    def _put_frame(self, data: bytes) -> None:
        frame = self._compressor.compress(data)
        self._file.write(frame)
        self._entries += _ENTRY.pack(len(frame), len(data))


def table_bytes(footer: bytes, size: int) -> int:
    """How long the table is, its footer with it; `footer`: the last FOOTER_BYTES of a file of this size.

    Raises:
        Damaged: there is none, or the file is too short for it.
    """
    if len(footer) < FOOTER_BYTES:
        raise Damaged("it is too short to be compressed output")
    frames, flags, magic = _FOOTER.unpack(footer)
    length = _HEADER.size + int(frames) * _ENTRY.size + FOOTER_BYTES
    if magic != _SEEKABLE_MAGIC or flags != 0 or length > size:
        raise Damaged("it does not end with the table of compressed output")
    return length


def parse_table(table: bytes, size: int) -> Table:
    """The end of a file of this size, `table_bytes` long. Raises Damaged where it does not fit the file."""
    if table[: _HEADER.size] != _HEADER.pack(_SKIPPABLE_MAGIC, len(table) - _HEADER.size):
        raise Damaged("the table at its end is damaged")
    starts, offsets = array("Q", [0]), array("Q", [0])
    for compressed, length in _ENTRY.iter_unpack(table[_HEADER.size : -FOOTER_BYTES]):
        starts.append(starts[-1] + compressed)
        offsets.append(offsets[-1] + length)
    if starts[-1] != size - len(table):
        raise Damaged("the table at its end does not fit its length")
    return Table(starts, offsets)


def decompress(table: Table, index: int, frame: bytes) -> bytes:
    """What is in this frame. Raises Damaged where it was changed."""
    length = table.offsets[index + 1] - table.offsets[index]
    try:
        data = zstandard.ZstdDecompressor().decompress(frame, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Damaged(f"bytes {table.offsets[index]} on cannot be decompressed ({error})") from error
    if not data or len(data) != length:
        raise Damaged(f"bytes {table.offsets[index]} on are not {length}, as the table says, but {len(data)}")
    return data


def read_table(file: int) -> Table:
    """Reads the table of an open file, and nothing else of it. Raises Damaged."""
    size = os.fstat(file).st_size
    length = table_bytes(os.pread(file, FOOTER_BYTES, max(0, size - FOOTER_BYTES)), size)
    return parse_table(os.pread(file, length, size - length), size)


def read(file: int, table: Table, offset: int, length: int) -> bytes:
    """Up to `length` bytes of the output from `offset`; reads and decompresses only the frames that hold them.

    Raises:
        Damaged: a frame was changed.
    """
    end = min(offset + length, table.size_bytes)
    parts = []
    index = table.frame_of(offset)
    while offset < end:
        begin = table.offsets[index]
        part = _frame(file, table, index)[offset - begin : end - begin]
        parts.append(part)
        offset += len(part)
        index += 1
    return b"".join(parts)


def blocks(file: int) -> Iterator[bytes]:
    """All of the output, frame by frame. Raises Damaged."""
    table = read_table(file)
    for index in range(len(table.offsets) - 1):
        yield _frame(file, table, index)


def _frame(file: int, table: Table, index: int) -> bytes:
    start, end = table.starts[index], table.starts[index + 1]
    return decompress(table, index, os.pread(file, end - start, start))
