"""Following a run: a cursor over its record and its stored output. Nothing is queued per watcher."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from control_plane.runs.errors import OffsetPastEnd, OutputMissing, ShuttingDown
from control_plane.runs.feeds import Feed, Feeds
from control_plane.runs.queries import Queries
from control_plane.runs.states import RunState
from control_plane.storage.output_files import PENDING_BYTES, READ_BLOCK_BYTES, OutputFiles
from interlock.v1 import run_pb2
from interlock.v1 import run_service_pb2 as rpc

# How long a watcher of a silent run may go on after its token has ended or its access was taken away.
RECHECK_S = 60.0


class Watches:
    """Serves watchers until `close`, which tells each to go on elsewhere."""

    def __init__(
        self, feeds: Feeds, outputs: OutputFiles, queries: Queries, *, recheck_s: float = RECHECK_S
    ) -> None:
        self._recheck_s = recheck_s
        self._feeds = feeds
        self._outputs = outputs
        self._queries = queries
        self._is_closing = False

    def close(self) -> None:
        self._is_closing = True
        self._feeds.wake_all()

    async def watch(
        self,
        run_id: str,
        stack_id: str,
        offset: int,
        *,
        omit_output: bool,
        recheck: Callable[[], Awaitable[object]],
    ) -> AsyncIterator[rpc.WatchRunResponse | bytes]:
        """Messages, or messages already serialised, as RunService.WatchRun promises them.

        `recheck` is awaited now and then: it raises where the watcher's token has ended or access was taken away.

        Raises:
            OffsetPastEnd: the run is over and has fewer bytes, or is active and cannot have had so many.
            OutputMissing: the run is over, and its stored output is shorter than its record says.
            ShuttingDown: `close` was called.
        """
        with self._feeds.watching(run_id, stack_id, lambda: self._queries.load(run_id)) as feed:
            position = offset
            sent_version = -1
            while True:
                change = feed.change()
                version, run = await feed.run()
                is_over = is_final(run)
                if sent_version < 0:
                    self._check_offset(run, offset)
                if not is_over and version != sent_version:
                    yield rpc.WatchRunResponse(run=run)
                    sent_version = version
                if not omit_output:
                    async for end, message in self._pieces(feed, version, run_id, position):
                        position = end
                        yield message
                if is_over:
                    if not omit_output and position < run.output_size_bytes:
                        raise OutputMissing(run_id, position, run.output_size_bytes)
                    yield rpc.WatchRunResponse(run=run)
                    return
                if self._is_closing:
                    raise ShuttingDown
                if feed.version == version:
                    await self._changed(change, recheck)

    async def _changed(self, change: asyncio.Event, recheck: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                async with asyncio.timeout(self._recheck_s):
                    await change.wait()
                    return
            except TimeoutError:
                await recheck()

    async def _pieces(
        self, feed: Feed, version: int, run_id: str, position: int
    ) -> AsyncIterator[tuple[int, rpc.WatchRunResponse | bytes]]:
        """Output from `position` on, each piece with the position behind it: to the end, or until the run changes."""
        while feed.version == version and (piece := await self._next(feed, run_id, position)) is not None:
            position = piece[0]
            yield piece
            if self._is_closing:
                raise ShuttingDown

    async def _next(
        self, feed: Feed, run_id: str, position: int
    ) -> tuple[int, rpc.WatchRunResponse | bytes] | None:
        """The piece of output at `position` and the position behind it; None at the end."""
        output = self._outputs.opened(run_id)
        if output is not None:
            if position >= output.size_bytes:
                return None
            recent = output.recent(position)
            if recent is not None and recent[0] == position:
                return position + len(recent[1]), feed.serialised(position, recent[1])
        data = await self._outputs.read(run_id, position, READ_BLOCK_BYTES)
        if not data:
            return None
        return position + len(data), rpc.WatchRunResponse(output=rpc.OutputChunk(offset=position, data=data))

    def _check_offset(self, run: run_pb2.Run, offset: int) -> None:
        output = self._outputs.opened(run.id)
        size = output.size_bytes if output else run.output_size_bytes
        if not output and not is_final(run):
            size = self._outputs.size_on_disk(run.id)
        # A watcher of an active run may have seen bytes that a killed server had not yet stored: they come again.
        allowance = 0 if is_final(run) else PENDING_BYTES
        if offset > size + allowance:
            raise OffsetPastEnd(offset, size)


def is_final(run: run_pb2.Run) -> bool:
    return RunState(run_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_")).is_final
