"""From a line written in the container to the same line at a watcher. Each line says when it was written: container and
watcher read the same kernel's clock."""

from __future__ import annotations

import time

from benchmarks.ground import Ground, Site
from benchmarks.quiet import WINDOWS, Windows
from benchmarks.results import Figure
from interlock.types import OutputChunk

LINES = 300
# busybox and bash know this variable: seconds, a point, microseconds.
COMMAND = f"n={LINES}; while [ $n -gt 0 ]; do echo $EPOCHREALTIME; n=$((n-1)); sleep 0.02; done"


async def measure(ground: Ground) -> list[Figure]:
    windows = Windows()
    async with ground.with_runner() as site:
        stack_id = await site.stack("bench")
        for _ in range(WINDOWS):
            async with windows.window() as values:
                lags = sorted(await _lags_ms(site, stack_id))
                values["watch_lag_p99"] = lags[int(0.99 * len(lags))]
    return windows.figures()


async def _lags_ms(site: Site, stack_id: str) -> list[float]:
    run = await site.client.runs.create_task(stack_id, COMMAND)
    lags_ms = []
    begun = b""
    async for event in site.client.runs.follow(run.id):
        if isinstance(event, OutputChunk):
            now = time.time()
            *lines, begun = (begun + event.data).split(b"\n")
            lags_ms += [1000 * (now - float(line)) for line in lines if _is_time(line)]
    if len(lags_ms) != LINES:
        raise RuntimeError(f"{len(lags_ms)} of {LINES} lines arrived")
    return lags_ms


def _is_time(line: bytes) -> bool:
    return line.replace(b".", b"").isdigit()
