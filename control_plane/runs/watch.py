"""Following a run: a cursor over its record and its stored output. Nothing is queued per watcher."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from control_plane.errors import ShuttingDown
from control_plane.runs.errors import OffsetPastEnd, OutputMissing
from control_plane.runs.feeds import Feed, Feeds
from control_plane.runs.queries import Queries
from control_plane.runs.states import RunState
from control_plane.storage.outputs import PENDING_BYTES, READ_BLOCK_BYTES, Outputs
from interlock.v1 import run_pb2
from interlock.v1 import run_service_pb2 as rpc

# A response, or one that is serialised already.
Message: TypeAlias = rpc.WatchRunResponse | bytes

# How long a watcher of a silent run may go on after its token has ended or its access was taken away.
RECHECK_S = 60.0


class Watches:
    """Serves watchers until `close`, which tells each to go on elsewhere."""

    def __init__(
        self, feeds: Feeds, outputs: Outputs, queries: Queries, *, recheck_s: float = RECHECK_S
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
    ) -> AsyncGenerator[Message]:
        """Messages, or messages already serialised, as RunService.WatchRun promises them.

        `recheck` is awaited now and then: it raises where the watcher's token has ended or access was taken away.

        Raises:
            OffsetPastEnd: the run is over and has fewer bytes, or is active and cannot have had so many.
            OutputMissing: the run is over, and its stored output is shorter than its record says.
            ShuttingDown: `close` was called.
        """
        with self._feeds.watching(run_id, stack_id, lambda: self._queries.load(run_id)) as feed:
            watcher = _Watcher(feed, self._outputs, run_id, offset, wants_output=not omit_output)
            right = _Right(recheck, self._recheck_s)
            is_first = True
            while True:
                change = feed.change()
                version, run = await feed.run()
                if is_first:
                    await self._check_offset(run, offset)
                async for message in watcher.catch_up(run, version, is_first=is_first):
                    yield message
                    if self._is_closing:
                        raise ShuttingDown
                    await right.look()
                is_first = False
                if is_final(run):
                    return
                if self._is_closing:
                    raise ShuttingDown
                if feed.version == version:
                    await right.look_until(change)
                else:
                    await right.look()

    async def _check_offset(self, run: run_pb2.Run, offset: int) -> None:
        output = None if is_final(run) else self._outputs.opened(run.id)
        size = output.size_bytes if output else run.output_size_bytes
        if not output and not is_final(run):
            size = await self._outputs.size_stored(run.id)
        # A watcher of an active run may have seen bytes that a killed server had not yet stored: they come again.
        allowance = 0 if is_final(run) else PENDING_BYTES
        if offset > size + allowance:
            raise OffsetPastEnd(offset, size)


class _Right:
    """Whether a watcher may watch still: asked again each `every_s`, however much there is to tell meanwhile."""

    def __init__(self, recheck: Callable[[], Awaitable[object]], every_s: float) -> None:
        self._recheck = recheck
        self._every_s = every_s
        self._next_s = _time_s() + every_s

    async def look(self) -> None:
        """Raises as `recheck`, where it is time to ask."""
        if _time_s() >= self._next_s:
            await self._recheck()
            self._next_s = _time_s() + self._every_s

    async def look_until(self, change: asyncio.Event) -> None:
        """Returns once there is a change."""
        while not change.is_set():
            try:
                async with asyncio.timeout_at(self._next_s):
                    await change.wait()
            except TimeoutError:
                pass
            await self.look()


class _Watcher:
    """Where one watcher stands."""

    def __init__(
        self, feed: Feed, outputs: Outputs, run_id: str, position: int, *, wants_output: bool
    ) -> None:
        self._feed = feed
        self._outputs = outputs
        self._run_id = run_id
        self._position = position
        self._wants_output = wants_output
        self._version = -1

    async def catch_up(self, run: run_pb2.Run, version: int, *, is_first: bool) -> AsyncIterator[Message]:
        """All that is new: the run where it changed, and output to the end or until it changes again."""
        if is_final(run):
            # Behind it there may be more: what an abandoned run's runner reported late is not the run's own.
            async for message in self._output(end=run.output_size_bytes):
                yield message
            if self._wants_output and self._position < run.output_size_bytes:
                raise OutputMissing(run.id, self._position, run.output_size_bytes)
            yield rpc.WatchRunResponse(run=run)
            return
        if version != self._version:
            # What init wrote comes before the news that the command performs; the very first message is the run.
            async for message in self._output(end=0 if is_first else self._gate_offset(run)):
                yield message
            yield rpc.WatchRunResponse(run=run)
            self._version = version
        async for message in self._output(version=version):
            yield message

    def _gate_offset(self, run: run_pb2.Run) -> int:
        output = self._outputs.opened(self._run_id)
        # Nothing writes to it: a plan is made, and all that it wrote comes before that news.
        return (output.gate_offset or 0) if output is not None else run.output_size_bytes

    async def _output(self, *, version: int | None = None, end: int | None = None) -> AsyncIterator[Message]:
        """Output from where the watcher stands: to its end, to `end`, or as long as the run is at `version`."""
        while self._wants_output and (end is None or self._position < end):
            if version not in (None, self._feed.version) or (message := await self._next(end)) is None:
                return
            yield message

    async def _next(self, end: int | None) -> Message | None:
        """The next piece of output, up to `end`; None where there is no more."""
        output = self._outputs.opened(self._run_id)
        read = self._outputs.read
        if output is not None and self._position >= output.size_bytes:
            if end is None:
                return None
            # The record knows of more: the run has gone on at another control plane since it was opened here.
            read = self._outputs.read_stored
        elif output is not None:
            recent = output.recent(self._position)
            if recent is not None and recent[0] == self._position:
                after = self._position + len(recent[1])
                if end is None or after <= end:
                    self._position = after
                    return self._feed.serialised(*recent)
        length = READ_BLOCK_BYTES if end is None else min(READ_BLOCK_BYTES, end - self._position)
        data = await read(self._run_id, self._position, length)
        if not data:
            return None
        chunk = rpc.OutputChunk(offset=self._position, data=data)
        self._position += len(data)
        return rpc.WatchRunResponse(output=chunk)


def is_final(run: run_pb2.Run) -> bool:
    return RunState(run_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_")).is_final


def _time_s() -> float:
    return asyncio.get_running_loop().time()
