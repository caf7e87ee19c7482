"""Requests to hold what the source gives now, and how far they are fulfilled. Many requests, one renewal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Renewals:
    """Requests are numbered from 1; to settle one settles all before it."""

    def __init__(self) -> None:
        self.asked = 0
        self._settled = 0
        self._news = asyncio.Event()

    def request(self) -> int:
        self.asked += 1
        self._tell()
        return self.asked

    def settle(self, number: int) -> None:
        """What was asked up to `number` is done."""
        self._settled = number
        self._tell()

    async def settled(self, number: int) -> None:
        """Returns once that request is settled."""
        await self._until(lambda: self._settled >= number)

    async def asked_beyond(self, number: int) -> None:
        """Returns once there is a request after `number`."""
        await self._until(lambda: self.asked > number)

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            await self._news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
