"""Following a run: a cursor over its record and its stored output. Nothing is queued per watcher."""

from __future__ import annotations

from collections.abc import AsyncIterator

from control_plane.runs.errors import OffsetPastEnd, ShuttingDown
from control_plane.runs.feeds import Feed, Feeds
from control_plane.runs.queries import Queries
from control_plane.runs.states import RunState
from control_plane.storage.output_files import PENDING_BYTES, READ_BLOCK_BYTES, OutputFiles
from interlock.v1 import run_pb2
from interlock.v1 import run_service_pb2 as rpc


class Watches:
    """Serves watchers until `close`, which tells each to go on elsewhere."""

    def __init__(self, feeds: Feeds, outputs: OutputFiles, queries: Queries) -> None:
        self._feeds = feeds
        self._outputs = outputs
        self._queries = queries
        self._is_closing = False

    def close(self) -> None:
        self._is_closing = True
        self._feeds.wake_all()

    async def watch(
        self, run_id: str, stack_id: str, offset: int, *, omit_output: bool
    ) -> AsyncIterator[rpc.WatchRunResponse | bytes]:
        """Messages, or messages already serialised, as RunService.WatchRun promises them.

        Raises:
            OffsetPastEnd: the run is over and has fewer bytes, or is active and cannot have had so many.
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
                while not omit_output and feed.version == version:
                    piece = await self._next(feed, run_id, position)
                    if piece is None:
                        break
                    position, message = piece
                    yield message
                    if self._is_closing:
                        raise ShuttingDown
                if is_over and (omit_output or position >= run.output_size_bytes):
                    yield rpc.WatchRunResponse(run=run)
                    return
                if self._is_closing:
                    raise ShuttingDown
                if feed.version == version and not change.is_set():
                    await change.wait()

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
