"""The masked output of one run on its way to the control plane: bounded files, addressed by byte offset.

Takes bytes as long as there is room, keeps them until they are acknowledged, and knows the SHA-256 of all
that it ever took. It never drops a byte: when it is full, it takes fewer than it is given, and the caller
waits. It never gives a byte that it did not take: what the disk gives back is checked. Nothing is synced:
after a crash the spool is made again from the engine's own log of the container.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import zlib
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from runner.errors import OutputDiffers, SpoolDamaged

_SEGMENT_BYTES = 4 << 20
_BLOCK_BYTES = 64 << 10
# A fully acknowledged segment of this size is given back at once; a smaller one is not worth it.
_WORTH_FREEING_BYTES = 256 << 10
SHA256_OF_NOTHING = hashlib.sha256().hexdigest()
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass
class _Segment:
    path: Path
    start: int
    length: int = 0
    _sums: list[int] = field(default_factory=list)
    """CRC-32 of each whole block."""
    _last_sum: int = 0
    """Of the block that is not whole yet."""

    @property
    def end(self) -> int:
        return self.start + self.length

    def note(self, data: bytes) -> None:
        """This was written at its end."""
        left = memoryview(data)
        while left:
            piece = left[: _BLOCK_BYTES - self.length % _BLOCK_BYTES]
            self._last_sum = zlib.crc32(piece, self._last_sum)
            self.length += len(piece)
            if self.length % _BLOCK_BYTES == 0:
                self._sums.append(self._last_sum)
                self._last_sum = 0
            left = left[len(piece) :]

    def read(self, descriptor: int, at: int, length: int) -> bytes:
        """Raises `SpoolDamaged`."""
        first = at - at % _BLOCK_BYTES
        beyond = min(-(-(at + length) // _BLOCK_BYTES) * _BLOCK_BYTES, self.length)
        blocks = os.pread(descriptor, beyond - first, first)
        for begin in range(first, beyond, _BLOCK_BYTES):
            number = begin // _BLOCK_BYTES
            expected = self._sums[number] if number < len(self._sums) else self._last_sum
            block = memoryview(blocks)[begin - first : min(begin + _BLOCK_BYTES, beyond) - first]
            if zlib.crc32(block) != expected:
                raise SpoolDamaged(self.path, self.start + begin)
        return blocks[at - first : at - first + length]


class Spool:
    """One writer, one reader, one thread.

    `start`: the bytes before it are counted and hashed, but not kept; they must have the hash `start_sha256`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        segment_bytes: int = _SEGMENT_BYTES,
        start: int = 0,
        start_sha256: str = SHA256_OF_NOTHING,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._segments: deque[_Segment] = deque()
        self._writing: int | None = None
        self._reading: tuple[int, int] | None = None
        self._hash = hashlib.sha256()
        self._start = start
        self._start_sha256 = start_sha256
        self._size = 0
        self._freed = start
        self.is_disk_full = False
        """The last append failed for want of disk space."""
        shutil.rmtree(folder, ignore_errors=True)

    @property
    def size(self) -> int:
        """Offset behind the last byte ever taken."""
        return self._size

    @property
    def freed(self) -> int:
        """Offset of the first byte that can still be read."""
        return self._freed

    @property
    def sha256(self) -> str:
        """Of all bytes ever taken, lower-case hex."""
        return self._hash.hexdigest()

    def append(self, data: bytes) -> int:
        """Takes as much as there is room for, from the front, and returns how much that was.

        Raises `OutputDiffers` when the bytes before `start` were not those that were expected.
        """
        skipped = min(max(self._start - self._size, 0), len(data))
        if skipped:
            self._count(data[:skipped])
            if self._size == self._start and self.sha256 != self._start_sha256:
                raise self.differing()
        taken = skipped
        while taken < len(data):
            written = self._write(data[taken:] if taken else data)
            if not written:
                break
            self._count(data[taken : taken + written])
            taken += written
        return taken

    def differing(self) -> OutputDiffers:
        """The error that says: nothing behind `start` is known to be right."""
        return OutputDiffers(self._start, self._start_sha256)

    def read(self, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes from `offset`, fewer at the end of a segment; empty only at the end of all.

        Raises `SpoolDamaged`.
        """
        if not self._freed <= offset <= self._size:
            raise ValueError(f"offset {offset} is not between {self._freed} and {self._size}")
        for segment in self._segments:
            if segment.start <= offset < segment.end:
                length = min(limit, segment.end - offset)
                return segment.read(self._reader(segment), offset - segment.start, length)
        return b""

    def free(self, up_to: int) -> None:
        """Gives back what was acknowledged. Never moves backwards."""
        if up_to > self._size:
            raise ValueError(f"offset {up_to} is past the end, {self._size}")
        self._freed = max(self._freed, up_to)
        while self._segments and self._segments[0].end <= self._freed:
            if len(self._segments) == 1 and self._segments[0].length < _WORTH_FREEING_BYTES:
                break
            self._drop_first()

    def close(self) -> None:
        """Closes its files and leaves them."""
        self._close_writer()
        self._close_reader()

    def remove(self) -> None:
        self.close()
        self._segments.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _count(self, data: bytes) -> None:
        self._hash.update(data)
        self._size += len(data)

    def _write(self, data: bytes) -> int:
        room = self._max_bytes - (self._size - self._freed)
        if room <= 0:
            return 0
        try:
            segment, descriptor = self._writer()
            written = os.write(descriptor, data[: min(room, self._segment_bytes - segment.length)])
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            self.is_disk_full = True
            if self._segments and self._segments[0].end <= self._freed:
                # Acknowledged, and kept only because it is small.
                self._drop_first()
                return self._write(data)
            return 0
        self.is_disk_full = False
        segment.note(data[:written])
        return written

    def _writer(self) -> tuple[_Segment, int]:
        if self._writing is not None and self._segments[-1].length < self._segment_bytes:
            return self._segments[-1], self._writing
        self._close_writer()
        # Made only now: a full disk holds back what is written, and nothing else.
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{self._size:020d}"
        self._writing = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._segments.append(_Segment(path, self._size))
        return self._segments[-1], self._writing

    def _reader(self, segment: _Segment) -> int:
        if self._reading is None or self._reading[0] != segment.start:
            self._close_reader()
            self._reading = segment.start, os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        return self._reading[1]

    def _drop_first(self) -> None:
        segment = self._segments.popleft()
        if not self._segments:
            self._close_writer()
        if self._reading is not None and self._reading[0] == segment.start:
            self._close_reader()
        segment.path.unlink(missing_ok=True)

    def _close_writer(self) -> None:
        if self._writing is not None:
            os.close(self._writing)
            self._writing = None

    def _close_reader(self) -> None:
        if self._reading is not None:
            os.close(self._reading[1])
            self._reading = None
