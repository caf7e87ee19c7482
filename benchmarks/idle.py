"""What a thousand watchers of a silent run cost while nothing happens: CPU of all parts, memory of the control plane."""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks import processes
from benchmarks.ground import Ground, Site, access_token
from benchmarks.quiet import WINDOWS, Windows
from benchmarks.results import Figure
from tests import house

COMMAND = "exec sleep 3600"
WINDOW_S = 8.0


async def measure(ground: Ground) -> list[Figure]:
    windows = Windows()
    async with ground.with_runner() as site:
        run = await site.client.runs.create_task(await site.stack("bench"), COMMAND)
        await house.reached(site.client, run.id, "PERFORMING")
        server, runner = site.house.server.pid, site.runner.pid
        async with _watchers(site, run.id):
            for _ in range(WINDOWS):
                async with windows.window() as values:
                    processes.forget_peak(server)
                    began, used = time.monotonic(), _used_s(server, runner)
                    await asyncio.sleep(WINDOW_S)  # the window itself
                    values["idle_cpu"] = 100 * (_used_s(server, runner) - used) / (time.monotonic() - began)
                    values["rss_control_plane"] = processes.peak_rss_mib(server)
    return windows.figures()


def _used_s(server: int, runner: int) -> float:
    """OPA is the control plane's child."""
    return processes.family_cpu_s(server) + processes.cpu_s(runner)


@asynccontextmanager
async def _watchers(site: Site, run_id: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.watchers", site.house.address, await access_token(site.house), run_id,
        stdin=PIPE, stdout=PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    if await process.stdout.readline() != b"ready\n":
        raise RuntimeError("the watchers did not get ready")
    try:
        yield
    finally:
        process.stdin.close()
        await process.wait()
