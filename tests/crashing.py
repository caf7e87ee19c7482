"""Work on a database in processes that end, as by SIGKILL, before their statement of a given number.

A module with the work calls `serve` when it is run; a test asks it by `Crashing`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import sqlalchemy as sa

_KILLED = 137


class Crashing:
    """The processes of one module, asked from a test."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def is_whole(self, number: int) -> bool:
        """Works until before that statement. True where the work was done without coming to it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"%d\n" % number)
        answer = (await self._process.stdout.readline()).decode().strip()
        assert answer in {"crashed", "whole"}, answer
        return answer == "whole"


@asynccontextmanager
async def opened(module: str, url: str) -> AsyncIterator[Crashing]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, url, stdin=PIPE, stdout=PIPE)
    try:
        yield Crashing(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def serve(work: Callable[[str, int], None]) -> None:
    """Reads a number a line; each time a process of its own does `work(url, number)`."""
    for line in sys.stdin:
        # Before any thread and any connection: a fork of this process is as good as a new one, and soon there.
        child = os.fork()
        if child == 0:
            try:
                work(sys.argv[1], int(line))
            # Whatever it is, this process must not go on as its parent would.
            except BaseException:  # noqa: BLE001
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        print({_KILLED: "crashed", 0: "whole"}.get(code, f"exit code {code}"), flush=True)


def crash_before(engine: sa.Engine, number: int) -> None:
    """Ends this process at that statement of the engine; a commit counts as one."""
    statements = itertools.count(1)

    def count(*_: object) -> None:
        if next(statements) == number:
            os._exit(_KILLED)

    sa.event.listen(engine, "before_cursor_execute", count)
    sa.event.listen(engine, "commit", count)
