"""Where output can be kept, for tests of what is promised of all of them: control planes made one after the other, or
at once, on one place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from control_plane.object_address import ObjectAddress
from control_plane.storage.object_store import ObjectStore
from control_plane.storage.output_files import OutputFiles
from control_plane.storage.output_objects import OutputObjects
from control_plane.storage.outputs import Outputs, Writer
from tests.integration.runs.conftest import World


class CountingStore(ObjectStore):
    """The real one, and what was asked of it."""

    def __init__(self, address: ObjectAddress) -> None:
        super().__init__(address)
        self.puts: list[str] = []
        self.gets: list[str] = []

    async def put(self, key: str, data: bytes) -> None:
        await super().put(key, data)
        self.puts.append(key)

    async def get(self, key: str, start: int, length: int) -> bytes:
        self.gets.append(key)
        return await super().get(key, start, length)


@dataclass(eq=False)
class Place:
    """`address` None: files. The run is active, `writer` is its assignment."""

    folder: Path
    world: World
    address: ObjectAddress | None
    run_id: str
    writer: Writer
    _serving: list[asyncio.Task[None]] = field(default_factory=list)

    def serve(self, outputs: Outputs) -> None:
        self._serving.append(asyncio.create_task(outputs.serve()))

    async def control_plane(self) -> Outputs:
        """A new one, with the run open."""
        files = OutputFiles(self.folder)
        outputs: Outputs = files
        if self.address is not None:
            outputs = OutputObjects(self.world.db, ObjectStore(self.address), files)
        self.serve(outputs)
        await outputs.open(self.run_id, self.writer)
        return outputs

    async def close(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)


@asynccontextmanager
async def opened(folder: Path, world: World, address: ObjectAddress | None) -> AsyncIterator[Place]:
    run_id = await world.queue()
    ref = await world.assign(run_id)
    place = Place(folder, world, address, run_id, Writer(ref.assignment_id, ref.fencing_token))
    try:
        yield place
    finally:
        await place.close()
