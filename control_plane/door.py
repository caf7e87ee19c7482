"""Who may still come in: once it is closed, a call is refused before it does anything, and those inside are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from control_plane import errors


class Door:
    def __init__(self) -> None:
        self._is_closed = False
        self._inside = 0
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def check(self) -> None:
        """Raises ShuttingDown once the door is closed."""
        if self._is_closed:
            raise errors.ShuttingDown

    @contextmanager
    def inside(self) -> Iterator[None]:
        """For a call with one answer, from its first step to its last. Raises ShuttingDown."""
        self.check()
        self._inside += 1
        self._is_empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._is_empty.set()

    async def close(self, *, within_s: float) -> None:
        """Lets nobody in any more; returns when nobody is inside, or the time is over."""
        self._is_closed = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_empty.wait(), within_s)
