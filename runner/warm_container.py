"""One warm container: started for no run in particular, its shell waiting for a script, its workspace in place."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

from runner import labels, script
from runner.engine import ContainerId, ContainerSpec, Engine, InputStream, OutputStream
from runner.errors import ImageUnavailable
from runner.sources.workspace import Workspace
from runner.warm_demand import Kind


class WarmOutput:
    """An output stream with a read that is always on its way.

    A container without a script writes nothing, so that read ends only with the container, or with the connection
    to the engine.
    """

    def __init__(self, output: OutputStream) -> None:
        self._output = output
        self._first: asyncio.Task[bytes] | None = asyncio.create_task(output.read(), name="warm container")
        self._has_ended = False
        self._on_end: Callable[[], None] = lambda: None
        self._first.add_done_callback(self._note_end)

    @property
    def is_silent(self) -> bool:
        return not self._has_ended

    def call_at_end(self, call: Callable[[], None]) -> None:
        self._on_end = call

    async def read(self) -> bytes:
        if self._first is None:
            return await self._output.read()
        first, self._first = self._first, None
        return await first

    async def close(self) -> None:
        if self._first is not None:
            self._first.cancel()
        await self._output.close()

    def _note_end(self, first: asyncio.Task[bytes]) -> None:
        self._has_ended = True
        if not first.cancelled():
            first.exception()  # else asyncio complains that nobody looked
        self._on_end()


class WarmContainer:
    """For exactly one run. Nothing of any run is in it or in its config."""

    def __init__(
        self, container: ContainerId, kind: Kind, end_line: str, output: WarmOutput, stdin: InputStream
    ) -> None:
        self.id = container
        self.kind = kind
        self.end_line = end_line
        self.output = output
        self.stdin = stdin
        self.started_s = time.monotonic()

    @property
    def is_alive(self) -> bool:
        """Until it gets its script: it still waits for one, and the engine is still connected to it."""
        return self.output.is_silent

    async def remove(self, engine: Engine) -> None:
        """Raises what the engine does; then it is still there."""
        await engine.remove(self.id)
        await self.output.close()
        await self.stdin.close()


async def start(engine: Engine, kind: Kind, *, runner_id: str) -> WarmContainer:
    """Removes what it made when it fails. To be shielded from cancellation."""
    end_line = script.new_end_line()
    container = await engine.create(
        ContainerSpec(
            name=labels.name_of_warm(secrets.token_hex(8)),
            image=kind.image,
            end_line=end_line,
            labels=labels.of_warm(runner_id=runner_id),
            limits=kind.limits,
            network_mode=kind.network_mode,
            runtime=kind.runtime,
        )
    )
    async with AsyncExitStack() as undo:
        undo.push_async_callback(engine.remove, container)
        if await engine.image_of(container) != kind.image_id:
            raise ImageUnavailable(f"{kind.image} is the name of another image now")
        output = WarmOutput(await engine.attach_output(container))
        undo.push_async_callback(output.close)
        stdin = await engine.attach_input(container)
        undo.push_async_callback(stdin.close)
        await engine.start(container)
        with Workspace.empty() as workspace:
            await engine.put_archive(container, workspace.archive())
        undo.pop_all()
    return WarmContainer(container, kind, end_line, output, stdin)
