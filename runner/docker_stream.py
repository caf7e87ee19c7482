"""Docker's multiplexed streams: attachments to a container, and its log, read in threads of their own.

A frame is eight bytes (stream, three zeros, length as a big-endian number) and its payload. An attachment's
frames are taken apart in chunks of 256 KiB, since Python's time per call is what bounds the rate.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from functools import partial
from typing import Any

from docker.types import CancellableStream
from urllib3.exceptions import HTTPError

from runner.byte_channel import ByteChannel
from runner.engine import MAX_READ_BYTES
from runner.errors import StreamCut
from runner.replay import ReplayDecoder
from runner.threads import in_own_thread

_HEADER_BYTES = 8


class Demultiplexer:
    """Takes the headers out of a stream of frames, however it is cut."""

    def __init__(self) -> None:
        self._header = b""
        self._missing = 0

    @property
    def is_between_frames(self) -> bool:
        return not self._header and not self._missing

    def feed(self, data: memoryview) -> bytes:
        payloads: list[memoryview] = []
        position, size = 0, len(data)
        while position < size:
            if self._missing:
                end = min(position + self._missing, size)
                payloads.append(data[position:end])
                self._missing -= end - position
                position = end
            elif self._header or size - position < _HEADER_BYTES:
                taken = min(_HEADER_BYTES - len(self._header), size - position)
                self._header += data[position : position + taken]
                position += taken
                if len(self._header) == _HEADER_BYTES:
                    self._missing = int.from_bytes(self._header[4:])
                    self._header = b""
            else:
                self._missing = int.from_bytes(data[position + 4 : position + _HEADER_BYTES])
                position += _HEADER_BYTES
        return b"".join(payloads)


class Connection:
    """A connection that Docker has handed over to a container's streams."""

    def __init__(self, raw: Any) -> None:
        # The SDK gives the reading end of an HTTP response; its socket is what can also be written to. Over
        # TLS it gives the socket itself.
        self._raw = raw
        self.socket: socket.socket = getattr(raw, "_sock", raw)
        # Else a silent run would look like a broken connection after the client's timeout.
        self.socket.settimeout(None)

    def close(self) -> None:
        with suppress(OSError):  # the engine has already closed its end
            # Ends a blocked read in another thread, which closing does not.
            self.socket.shutdown(socket.SHUT_RDWR)
        self._raw.close()
        self.socket.close()


class DockerInput:
    """A container's standard input."""

    def __init__(self, connection: Connection, thread_name: str) -> None:
        self._connection = connection
        self._thread_name = thread_name

    async def feed(self, data: bytes) -> None:
        await in_own_thread(self._thread_name, partial(self._send, data))

    async def close(self) -> None:
        self._connection.close()

    def _send(self, data: bytes) -> None:
        try:
            self._connection.socket.sendall(data)
        except OSError as error:
            raise StreamCut("the container does not read its standard input any more") from error


class DockerOutput:
    """What a container writes, from now on."""

    def __init__(self, connection: Connection, thread_name: str) -> None:
        self._connection = connection
        self._channel = ByteChannel(asyncio.get_running_loop())
        self._thread = threading.Thread(target=self._receive, name=thread_name, daemon=True)
        self._thread.start()

    async def read(self) -> bytes:
        return await self._channel.read()

    async def close(self) -> None:
        self._channel.abandon()
        self._connection.close()

    def _receive(self) -> None:
        frames = Demultiplexer()
        buffer = memoryview(bytearray(MAX_READ_BYTES))
        error = None
        try:
            while size := self._connection.socket.recv_into(buffer):
                data = frames.feed(buffer[:size])
                if data and not self._channel.put(data):
                    return
        except OSError as cut:
            error = StreamCut(f"the connection to the container's output broke: {cut}")
        if error is None and not frames.is_between_frames:
            error = StreamCut("the connection to the container's output ended inside a frame")
        self._channel.end(error)


class DockerReplay:
    """The container's log from its start, decoded, followed until the container ends."""

    def __init__(self, frames: CancellableStream[bytes], thread_name: str) -> None:
        self._frames = frames
        self._channel = ByteChannel(asyncio.get_running_loop())
        self._thread = threading.Thread(target=self._receive, name=thread_name, daemon=True)
        self._thread.start()

    async def read(self) -> bytes:
        return await self._channel.read()

    async def close(self) -> None:
        self._channel.abandon()
        with suppress(OSError):  # the engine has already closed its end
            self._frames.close()

    def _receive(self) -> None:
        decoder = ReplayDecoder()
        error = None
        try:
            for frame in self._frames:
                data = decoder.feed(frame)
                if data and not self._channel.put(data):
                    return
        except (OSError, ValueError, HTTPError) as cut:
            error = StreamCut(f"the connection to the container's log broke: {cut}")
        self._channel.end(error)
