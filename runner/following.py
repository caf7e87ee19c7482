"""Follows one container to its end, through broken connections and restarts of the engine and of the runner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from runner.engine import ContainerExit, ContainerId, Engine, OutputStream
from runner.errors import EngineRefused, EngineUnavailable, OutputDiffers, StreamCut
from runner.masking import Masker
from runner.output import Behind, Nowhere, Output, Sink, Store
from runner.phases import PhaseEvent
from runner.spool import Spool

log = structlog.get_logger(__name__)

# Between the end of the output and that of the container lie 50 ms; more means that the output was cut.
_END_WITHIN_S = 15.0
_RETRY_S = 1.0


class _EndedTooEarly(StreamCut):
    """The script has not told its end. The container has ended, so a replay now has all that there is."""


@dataclass(kw_only=True)
class Following:
    """`follow` with the attachment made before the container was started, `recover` for a container of an earlier
    process. Both return when the container has ended and its whole output is in the spool. Raise `ContainerGone`."""

    engine: Engine
    container: ContainerId
    run_id: str
    nonce: str
    secrets: list[bytes]
    spool: Spool
    store: Store
    on_event: Callable[[PhaseEvent], None]
    is_whole: Callable[[], bool]
    """Whether the script has told its end by its marks."""
    preamble: bytes | None = b""
    """Masked output from before the container's own; a replay begins with it. None: it is lost."""
    differs: OutputDiffers | None = field(default=None, init=False)
    """Set when a replay gave other bytes than before; the rest of the output was not stored."""

    async def follow(self, stream: OutputStream, masker: Masker) -> ContainerExit:
        try:
            return await self._until_end(stream, self._output(masker, self.spool), is_last=False)
        except _EndedTooEarly:
            return await self.recover(has_ended=True)
        except (StreamCut, EngineUnavailable, EngineRefused) as error:
            log.warning("container.output_cut", run_id=self.run_id, error=error.message)
        return await self.recover()

    async def recover(self, *, has_ended: bool = False) -> ContainerExit:
        sink: Sink = Behind(self.spool)
        while True:
            try:
                return await self._replayed(sink, is_last=has_ended)
            except OutputDiffers as error:
                log.error("container.replay_differs", run_id=self.run_id, error=error.message)
                self.differs = error
            except _EndedTooEarly:
                has_ended = True
            except (StreamCut, EngineUnavailable, EngineRefused) as error:
                log.warning("container.replay_cut", run_id=self.run_id, error=error.message)
                await asyncio.sleep(_RETRY_S)
            sink = Nowhere() if self.differs else Behind(self.spool)

    async def _replayed(self, sink: Sink, *, is_last: bool) -> ContainerExit:
        if self.preamble is None and self.differs is None:
            # Where the container's own output begins, nobody can tell any more.
            raise self.spool.differing()
        masker = await asyncio.to_thread(Masker, self.secrets)
        stream = await self.engine.replay(self.container)
        try:
            await self.store.put(sink, self.preamble or b"")
        except OutputDiffers:
            await stream.close()
            raise
        return await self._until_end(stream, self._output(masker, sink), is_last=is_last)

    async def _until_end(self, stream: OutputStream, output: Output, *, is_last: bool) -> ContainerExit:
        try:
            await output.drain(stream)
        finally:
            await stream.close()
        try:
            async with asyncio.timeout(_END_WITHIN_S):
                ended = await self.engine.wait(self.container)
        except TimeoutError as error:
            raise StreamCut("the output ended and the container did not") from error
        if not is_last and not self.is_whole():
            raise _EndedTooEarly("the container was killed, or its output ended before it did")
        await output.finish()
        return ended

    def _output(self, masker: Masker, sink: Sink) -> Output:
        return Output(nonce=self.nonce, masker=masker, sink=sink, store=self.store, on_event=self.on_event)
