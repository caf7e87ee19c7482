"""Blocking calls off the event loop, in threads whose names say what they do.

Each in one of its own, not in a pool: a process that ends waits for the threads of pools, and an engine or a
container that hangs would keep it.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_own_thread(name: str, call: Callable[[], T]) -> T:
    """Runs one call. If the caller is cancelled, the thread goes on alone."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        settle: Callable[[], None]
        try:
            settle = functools.partial(outcome.set_result, call())
        except BaseException as error:  # noqa: BLE001  # carried over, whole, to the one who waits
            settle = functools.partial(outcome.set_exception, error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_unless_done, outcome, settle)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await outcome


def _unless_done(outcome: asyncio.Future[T], settle: Callable[[], None]) -> None:
    if not outcome.done():
        settle()
