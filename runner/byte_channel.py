"""Bytes on their way from a blocking thread to the event loop; a full channel holds the thread back."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from runner.engine import MAX_READ_BYTES

_CAPACITY_BYTES = 4 << 20


class ByteChannel:
    """One thread puts, one coroutine reads."""

    def __init__(self, loop: asyncio.AbstractEventLoop, capacity_bytes: int = _CAPACITY_BYTES) -> None:
        self._loop = loop
        self._capacity_bytes = capacity_bytes
        self._changed = threading.Condition()
        self._parts: deque[bytes] = deque()
        self._size_bytes = 0
        self._ended = False
        self._error: Exception | None = None
        self._abandoned = False
        self._reader: asyncio.Future[None] | None = None

    def put(self, data: bytes) -> bool:
        """From the thread. Waits for room; False when nobody will read any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._abandoned or self._size_bytes < self._capacity_bytes)
            if self._abandoned:
                return False
            self._parts.append(data)
            self._size_bytes += len(data)
            return self._wake_reader()

    def end(self, error: Exception | None = None) -> None:
        """From the thread, once: nothing more will come. The reader gets `error` behind the last byte."""
        with self._changed:
            self._ended, self._error = True, error
            self._wake_reader()

    async def read(self) -> bytes:
        """At most 256 KiB of what is there, at least one byte; b"" after the end."""
        while True:
            with self._changed:
                if self._parts:
                    return self._take()
                if self._ended:
                    if self._error:
                        raise self._error
                    return b""
                self._reader = reader = self._loop.create_future()
            await reader

    def abandon(self) -> None:
        """From the reader: it has left. Lets the thread go on to its end."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def _take(self) -> bytes:
        parts = [self._parts.popleft()]
        size_bytes = len(parts[0])
        while self._parts and size_bytes + len(self._parts[0]) <= MAX_READ_BYTES:
            parts.append(self._parts.popleft())
            size_bytes += len(parts[-1])
        self._size_bytes -= size_bytes
        self._changed.notify_all()
        return b"".join(parts) if len(parts) > 1 else parts[0]

    def _wake_reader(self) -> bool:
        reader, self._reader = self._reader, None
        if reader is None:
            return True
        try:
            self._loop.call_soon_threadsafe(_resolve, reader)
        except RuntimeError:  # the loop is closed: the process is on its way out
            return False
        return True


def _resolve(reader: asyncio.Future[None]) -> None:
    if not reader.done():
        reader.set_result(None)
