"""A line to the real engine that tests can cut: all connections to it break, and no new ones are made."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path


class EngineLine:
    """A unix socket whose bytes go to the engine's own."""

    def __init__(self, path: Path, engine_url: str) -> None:
        self.url = f"unix://{path}"
        self._path = path
        self._engine = engine_url.removeprefix("unix://")
        self._server: asyncio.Server | None = None
        self._streams: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._connect, self._path)

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
            self._server = None
        for stream in self._streams:
            stream.transport.abort()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            engine_reader, engine_writer = await asyncio.open_unix_connection(self._engine)
        except OSError:
            # It is being started again.
            writer.transport.abort()
            return
        self._streams |= {writer, engine_writer}
        for source, target in ((reader, engine_writer), (engine_reader, writer)):
            pump = asyncio.create_task(_pump(source, target))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(256 << 10):
            target.write(data)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()
