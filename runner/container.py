"""One run's container: made or taken warm, fed and taken away, whatever the engine does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import BinaryIO, TypeVar

import structlog

from runner import labels
from runner.belonging import belongs_to
from runner.engine import ContainerId, ContainerSpec, Engine, FoundContainer, InputStream, OutputStream
from runner.errors import ContainerGone, EngineRefused, EngineUnavailable, StreamCut
from runner.journal import Entry
from runner.warm_container import WarmContainer

log = structlog.get_logger(__name__)

_RETRY_S = 1.0
_INPUT_RETRY_S = 0.2

T = TypeVar("T")


class RunContainer:
    """Of one assignment. `make` for a new one, `found` for one of an earlier process."""

    def __init__(self, engine: Engine, runner_id: str, entry: Entry) -> None:
        """`entry`: as it was when the run was assigned, or found in the journal."""
        self._engine = engine
        self._labels = {labels.RUNNER: runner_id}
        self._entry = entry
        self._warm: WarmContainer | None = None
        self._end_line = ""
        self._making: asyncio.Task[OutputStream] | None = None
        self._id: ContainerId | None = None
        self._input: InputStream | None = None

    @property
    def id(self) -> ContainerId:
        if self._id is None:
            raise ContainerGone("there is no container")
        return self._id

    @property
    def is_there(self) -> bool:
        """It was made or found."""
        return self._id is not None

    @property
    def end_line(self) -> str:
        """What ends a block of its script; of one that was made or taken here."""
        return self._end_line

    @property
    def warm(self) -> WarmContainer | None:
        """What it was before it was this run's, unless it was made for it."""
        return self._warm

    def take(self, warm: WarmContainer) -> OutputStream:
        """It is this run's from now on. To be claimed before it gets its script."""
        self._warm, self._id = warm, warm.id
        self._end_line, self._input = warm.end_line, warm.stdin
        return warm.output

    async def claim(self, name: str) -> None:
        """Gives a warm one its run's name; another has it."""
        if self._warm is not None:
            await self._engine.rename(self._warm.id, name)

    async def make(self, spec: ContainerSpec) -> OutputStream:
        """Creates, attaches and starts one, also instead of a warm one that was taken and has died.

        Cancelled, it still runs to its end, so that `remove` finds what there is.
        """
        self._making = asyncio.create_task(self._make(spec), name=f"make {spec.name}")
        return await asyncio.shield(self._making)

    async def _make(self, spec: ContainerSpec) -> OutputStream:
        if self._warm is not None:
            await self._give_up(self._warm)
        self._id, self._end_line = await self._engine.create(spec), spec.end_line
        output, self._input = await asyncio.gather(
            self._engine.attach_output(self._id), self._engine.attach_input(self._id)
        )
        await self._engine.start(self._id)
        return output

    async def _give_up(self, warm: WarmContainer) -> None:
        log.warning("warm.given_up", container=warm.id, run_id=self._entry.run_id)
        await warm.remove(self._engine)
        self._warm = self._id = self._input = None

    async def found(self) -> FoundContainer | None:
        """The container that an earlier process had for this assignment, if it is still there."""
        containers = await self._all()
        if not containers:
            return None
        self._id = containers[0].id
        return containers[0]

    async def _all(self) -> list[FoundContainer]:
        found = await self.once_engine_answers(partial(self._engine.find, self._labels))
        return [container for container in found if belongs_to(container, self._entry)]

    async def put(self, archive: bytes | BinaryIO) -> None:
        await self._engine.put_archive(self.id, archive)

    async def read(self, path: str, take: Callable[[BinaryIO], None]) -> None:
        """A folder of it, as a tar for `take`, which runs in a thread; also when the container has ended."""
        await self._engine.read_archive(self.id, path, take)

    async def feed(self, text: bytes) -> None:
        """The script, to a container that was just made. Raises `StreamCut`."""
        assert self._input is not None, "`make` attaches to the input"
        await self._input.feed(text)

    async def open_gate(self, line: bytes) -> None:
        """Feeds the gate's token until the container has it or is gone. Twice does no harm."""
        while True:
            try:
                if self._input is None:
                    self._input = await self._engine.attach_input(self.id)
                await self._input.feed(line)
                return
            except ContainerGone:
                return
            except (StreamCut, EngineUnavailable, EngineRefused) as error:
                log.warning("container.gate_not_reached", container=self._id, error=error.message)
                await self.let_go()
                await asyncio.sleep(_INPUT_RETRY_S)

    async def let_go(self) -> None:
        """Closes its input; the container goes on."""
        if self._input is not None:
            taken, self._input = self._input, None
            await taken.close()

    async def stop(self, grace_s: float) -> None:
        """Returns when it has ended. One that is gone or was never made is no error."""
        await self._made()
        while self._id is not None:
            try:
                await self.once_engine_answers(partial(self._engine.stop, self._id, grace_s=grace_s))
                return
            except ContainerGone:
                return
            except EngineRefused as error:
                # Until it has ended it may do anything, so nobody may be told that it has.
                log.error("container.not_stopped", container=self._id, error=error.message)
                await asyncio.sleep(_RETRY_S)

    async def outlive(self) -> None:
        """Returns when it has ended by itself."""
        await self._made()
        if self._id is None and await self.found() is None:
            return
        try:
            await self.once_engine_answers(partial(self._engine.wait, self.id))
        except ContainerGone:
            return

    async def remove(self) -> None:
        """Everything that was made for the assignment. What the engine refuses is left to the next start's sweep."""
        await self._made()
        await self.let_go()
        try:
            known = [self._id] if self._id is not None else [each.id for each in await self._all()]
            for container in known:
                await self.once_engine_answers(partial(self._engine.remove, container))
        except EngineRefused as error:
            log.error("container.not_removed", run_id=self._entry.run_id, error=error.message)

    async def _made(self) -> None:
        if self._making is not None:
            await asyncio.wait({self._making})

    async def once_engine_answers(self, call: Callable[[], Awaitable[T]]) -> T:
        """The call's result, however long the engine is away."""
        while True:
            try:
                return await call()
            except EngineUnavailable as error:
                log.warning("engine.awaited", run_id=self._entry.run_id, error=error.message)
                await asyncio.sleep(_RETRY_S)
