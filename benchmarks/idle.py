"""What a thousand watchers of a silent run cost while nothing happens: CPU of all parts, memory of the control plane."""

from __future__ import annotations

import asyncio
import time

from benchmarks import processes
from benchmarks.ground import Ground, access_token
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
        async with processes.ready(
            "benchmarks.watchers", site.house.address, await access_token(site.house), run.id
        ):
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
