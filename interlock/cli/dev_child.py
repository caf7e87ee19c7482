"""One of the processes that `interlock dev` runs: started, logged, waited for, ended."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from interlock.errors import InterlockError

TAIL_LINES = 15
# Longest line of a log that is still read as one.
LINE_BYTES = 1 << 20

# What the servers' logs say about their start.
ENGINE_AWAITED = "engine.awaited"
EVENTS = ("server.ready", "runner.ready", ENGINE_AWAITED)

# The kernel ends the child when this process dies, however that happens (1 is PR_SET_PDEATHSIG); the check behind
# it covers a death in between. In a process of its own: code between fork and exec can deadlock beside threads.
LAUNCHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.executable, [sys.executable, "-m", sys.argv[2]])
"""


class ChildFailed(InterlockError):
    """A process of `interlock dev` ended by itself or did not become ready."""


class Child:
    """A Python module as a process in a session of its own, so that Ctrl-C reaches only its parent."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log_file: Path, *, echo: bool) -> None:
        self.name = name
        self._process = process
        self._log_file = log_file
        self._echo = echo
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._seen: set[str] = set()
        self._news = asyncio.Condition()
        self._logging = asyncio.create_task(self._log())

    @classmethod
    async def start(
        cls, name: str, module: str, environ: Mapping[str, str], log_file: Path, *, echo: bool
    ) -> Self:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", LAUNCHER, str(os.getpid()), module,
            env=dict(environ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=LINE_BYTES,
        )  # fmt: skip
        return cls(name, process, log_file, echo=echo)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self, *, within_s: float) -> None:
        """Returns when the log says so. Raises ChildFailed where it says that it cannot be, or nothing in time."""
        try:
            async with asyncio.timeout(within_s), self._news:
                await self._news.wait_for(lambda: self._seen or self._logging.done())
        except TimeoutError:
            raise self.failure(f"was not ready within {within_s:.0f} s") from None
        if ENGINE_AWAITED in self._seen:
            raise self.failure("finds no Docker Engine: start one, or set DOCKER_HOST")
        if not self._seen:
            raise self.failure(f"ended at once with exit code {await self._process.wait()}")

    async def ended(self) -> int:
        """Its exit code, when it has one."""
        return await self._process.wait()

    async def stop(self, *, patience_s: Sequence[float]) -> None:
        """Asks it to end as often as there are waits, then makes it."""
        try:
            for wait_s in patience_s:
                with contextlib.suppress(ProcessLookupError):
                    self._process.terminate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # what it started, and what is left of it
            await self._process.wait()
            await self._logging

    def failure(self, what: str) -> ChildFailed:
        tail = "".join(f"\n  {line}" for line in self._tail)
        return ChildFailed(f"the {self.name} {what}; the end of {self._log_file}:{tail}")

    async def _log(self) -> None:
        """Until the child and all that inherited its output are gone."""
        assert self._process.stdout is not None
        try:
            with self._log_file.open("wb", buffering=0) as log:
                async for line in self._process.stdout:
                    log.write(line)
                    await self._note(line.decode(errors="replace").rstrip())
        finally:
            async with self._news:
                self._news.notify_all()

    async def _note(self, line: str) -> None:
        self._tail.append(line)
        if self._echo:
            print(f"{self.name}: {line}", file=sys.stderr, flush=True)
        if events := {event for event in EVENTS if event in line}:
            async with self._news:
                self._seen |= events
                self._news.notify_all()
