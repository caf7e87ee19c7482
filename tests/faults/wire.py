"""A network between two parts that fails as networks do: TCP forwarded, cut, reset, or held without a word."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 64 << 10
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class Wire:
    """Leads from `address` to `target`, both host:port. Whoever dials `address` gets through while it is not cut."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._port = 0
        self._joined: set[asyncio.StreamWriter] = set()
        self._joins: set[asyncio.Task[object]] = set()
        self._to_target_flows = asyncio.Event()
        self._from_target_flows = asyncio.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.restore()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cut()
        await asyncio.gather(*self._joins, return_exceptions=True)

    async def cut(self, *, reset: bool = False) -> None:
        """Ends every connection, politely or by a reset, and refuses new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in tuple(self._joined):
            if reset:
                taken: socket.socket = writer.get_extra_info("socket")
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            writer.transport.abort()

    async def restore(self) -> None:
        """Everything flows again."""
        self._to_target_flows.set()
        self._from_target_flows.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._join, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    def hold(self, *, to_target: bool = True, from_target: bool = True) -> None:
        """Keeps connections open and forwards nothing, in either direction or in one."""
        if to_target:
            self._to_target_flows.clear()
        if from_target:
            self._from_target_flows.clear()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        joining = asyncio.current_task()
        assert joining is not None
        self._joins.add(joining)
        joining.add_done_callback(self._joins.discard)
        host, _, port = self._target.rpartition(":")
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._joined |= ends
        flows = [
            asyncio.create_task(_forward(reader, far_writer, self._to_target_flows)),
            asyncio.create_task(_forward(far_reader, writer, self._from_target_flows)),
        ]
        try:
            await asyncio.wait(flows, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for flow in flows:
                flow.cancel()
            await asyncio.gather(*flows, return_exceptions=True)
            self._joined -= ends
            for each in ends:
                each.transport.abort()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            await flows.wait()
            writer.write(data)
            await writer.drain()
