"""What watchers wait on: one feed per watched run. A feed holds no events, only the knowledge that something
changed; each watcher reads the record and the stored output from where it stands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from interlock.v1 import run_pb2, run_service_pb2

# Pieces of output kept serialised per run: watchers who follow closely stand at one of the last few.
_SERIALISED_PIECES = 4
# Room comes and goes with every run that ends anywhere; who waits for it is told at most so often.
CAPACITY_PAUSE_S = 0.25
# Reasons to wait that do not change when runners come and go.
_WHATEVER_THE_RUNNERS = {
    run_pb2.WAIT_REASON_APPROVAL,
    run_pb2.WAIT_REASON_CONFIRMATION,
    run_pb2.WAIT_REASON_EARLIER_RUN,
    run_pb2.WAIT_REASON_SLOT_TAKEN,
    run_pb2.WAIT_REASON_STACK_LOCKED,
}
_WAITS = {run_pb2.RUN_STATE_QUEUED, run_pb2.RUN_STATE_CONFIRMED}


class Feed:
    """Changes of one run. The run itself is read once per change, however many watch."""

    def __init__(self, load: Callable[[], Awaitable[run_pb2.Run]]) -> None:
        self._load = load
        self._changed = asyncio.Event()
        self._loading: asyncio.Future[run_pb2.Run] | None = None
        self._loaded: run_pb2.Run | None = None
        self._serialised: dict[int, bytes] = {}
        self.version = 0
        self.watchers = 0

    @property
    def may_wait_for_capacity(self) -> bool:
        """False where the run is known to wait for something else, or not to wait."""
        run = self._loaded
        return run is None or (run.state in _WAITS and run.waiting.reason not in _WHATEVER_THE_RUNNERS)

    def run_changed(self) -> None:
        """The run's record changed."""
        self.version += 1
        self._loading = self._loaded = None
        self.output_grew()

    def output_grew(self) -> None:
        """There is more output. Wakes everybody who waits."""
        self._changed.set()
        self._changed = asyncio.Event()

    def change(self) -> asyncio.Event:
        """Set at the next change. Take it before looking at the state, then wait on it."""
        return self._changed

    async def run(self) -> tuple[int, run_pb2.Run]:
        """The run as of the newest change, and the version that it stands for."""
        while True:
            version = self.version
            if self._loading is None:
                self._loading = asyncio.ensure_future(self._load())
            loading = self._loading
            try:
                loaded = await asyncio.shield(loading)
            except BaseException:
                if self._loading is loading:
                    self._loading = None
                raise
            if version == self.version:
                self._loaded = loaded
                return version, loaded

    def serialised(self, offset: int, data: bytes) -> bytes:
        """A piece of output as a WatchRunResponse on the wire, made once for all watchers who stand at the same place."""
        message = self._serialised.get(offset)
        if message is None:
            response = run_service_pb2.WatchRunResponse(
                output=run_service_pb2.OutputChunk(offset=offset, data=data)
            )
            message = response.SerializeToString()
            if len(self._serialised) >= _SERIALISED_PIECES:
                del self._serialised[next(iter(self._serialised))]
            self._serialised[offset] = message
        return message


class Feeds:
    """The feeds of all runs that somebody watches."""

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}
        self._of_stack: dict[str, set[str]] = {}
        self._capacity_told: asyncio.TimerHandle | None = None

    @contextmanager
    def watching(
        self, run_id: str, stack_id: str, load: Callable[[], Awaitable[run_pb2.Run]]
    ) -> Iterator[Feed]:
        """The feed of a run, for as long as one watcher needs it."""
        feed = self._feeds.get(run_id)
        if feed is None:
            feed = self._feeds[run_id] = Feed(load)
            self._of_stack.setdefault(stack_id, set()).add(run_id)
        feed.watchers += 1
        try:
            yield feed
        finally:
            feed.watchers -= 1
            if feed.watchers == 0:
                del self._feeds[run_id]
                siblings = self._of_stack[stack_id]
                siblings.discard(run_id)
                if not siblings:
                    del self._of_stack[stack_id]

    def watched(self) -> list[str]:
        """Ids of the runs that somebody watches now."""
        return list(self._feeds)

    def run_changed(self, run_id: str) -> None:
        if feed := self._feeds.get(run_id):
            feed.run_changed()

    def output_grew(self, run_id: str) -> None:
        if feed := self._feeds.get(run_id):
            feed.output_grew()

    def stack_changed(self, stack_id: str) -> None:
        """Why runs of this stack wait may have changed."""
        for run_id in self._of_stack.get(stack_id, ()):
            self._feeds[run_id].run_changed()

    def capacity_changed(self) -> None:
        """Runners came or went, or have room again: those who wait for that are told in a moment."""
        if self._capacity_told is None and self._feeds:
            loop = asyncio.get_running_loop()
            self._capacity_told = loop.call_later(CAPACITY_PAUSE_S, self._tell_capacity)

    def _tell_capacity(self) -> None:
        self._capacity_told = None
        for feed in self._feeds.values():
            if feed.may_wait_for_capacity:
                feed.run_changed()

    def all_changed(self) -> None:
        """Why runs wait may have changed anywhere."""
        for feed in self._feeds.values():
            feed.run_changed()

    def wake_all(self) -> None:
        """Wakes every watcher, so that it notices that the server is shutting down."""
        for feed in self._feeds.values():
            feed.output_grew()
