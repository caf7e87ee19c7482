"""The masked output of one run on its way to the control plane: bounded files, addressed by byte offset.

Takes bytes as long as there is room, keeps them until they are acknowledged, and knows the SHA-256 of all
that it ever took. It never drops a byte: when it is full, it takes fewer than it is given, and the caller
waits. Nothing is synced: after a crash the spool is made again from the engine's own log of the container.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from runner.errors import OutputDiffers

_SEGMENT_BYTES = 4 << 20
# A fully acknowledged segment of this size is given back at once; a smaller one is not worth it.
_WORTH_FREEING_BYTES = 256 << 10
SHA256_OF_NOTHING = hashlib.sha256().hexdigest()
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass
class _Segment:
    path: Path
    start: int
    length: int = 0

    @property
    def end(self) -> int:
        return self.start + self.length


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
                raise OutputDiffers(self._start, self._start_sha256)
        taken = skipped
        while taken < len(data):
            written = self._write(data[taken:] if taken else data)
            if not written:
                break
            self._count(data[taken : taken + written])
            taken += written
        return taken

    def read(self, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes from `offset`, fewer at the end of a segment; empty only at the end of all."""
        if not self._freed <= offset <= self._size:
            raise ValueError(f"offset {offset} is not between {self._freed} and {self._size}")
        for segment in self._segments:
            if segment.start <= offset < segment.end:
                length = min(limit, segment.end - offset)
                return os.pread(self._reader(segment), length, offset - segment.start)
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
        segment.length += written
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
