"""Statements per second that an idle control plane sends to its database while 200 runners are connected."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks import counted, processes
from benchmarks.results import Figure
from tests.house import House

RUNNERS: Final = 200
# Long enough that what comes every ten seconds comes three times.
WINDOW_S: Final = 30.0
# What the runners' arrival set off is over by then.
_SETTLED_S: Final = 10.0


async def measure(
    folder: Path, postgres_url: str, runners: int = RUNNERS, window_s: float = WINDOW_S
) -> list[Figure]:
    """The worse of SQLite and PostgreSQL."""
    figures = {}
    for name, url in (("SQLite", ""), ("PostgreSQL", postgres_url)):
        own = folder / f"idle-{name}"
        own.mkdir()
        figures[name] = await _per_second(own, url, runners, window_s)
    taken_from = f"the worst of {', '.join(figures)}, {window_s:g} s each, {runners} runners"
    return [Figure("idle_queries_per_s", max(figures.values()), list(figures.values()), taken_from)]


async def _per_second(folder: Path, database_url: str, runners: int, window_s: float) -> float:
    statements = folder / "statements"
    async with _counting(folder, database_url, statements) as site:
        async with site.connect() as client:
            token = await client.pools.create_token("public", name="fleet")
        async with processes.ready("benchmarks.fleet", site.address, token.credential, str(runners), "1"):
            await asyncio.sleep(_SETTLED_S)
            before, began = counted.counted(statements), time.monotonic()
            await asyncio.sleep(window_s)  # the window itself
            return (counted.counted(statements) - before) / (time.monotonic() - began)


@asynccontextmanager
async def _counting(folder: Path, database_url: str, statements: Path) -> AsyncIterator[House]:
    environment = {counted.VARIABLE: str(statements)}
    if database_url:
        environment |= {"INTERLOCK_DATABASE_URL": database_url, "INTERLOCK_MASTER_KEY": "6b" * 32}
    site = House(folder, os.environ.get("DOCKER_HOST", ""), environment)
    site.server.command = [sys.executable, "-m", "benchmarks.counted"]
    try:
        await site.start_server()
        yield site
    finally:
        await asyncio.to_thread(site.close)
