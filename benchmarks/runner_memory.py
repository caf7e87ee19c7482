"""The runner's memory while ten tasks at once write and then perform on."""

from __future__ import annotations

import asyncio

from benchmarks import processes
from benchmarks.ground import Ground, Site
from benchmarks.quiet import WINDOWS, Windows
from benchmarks.results import Figure
from tests import house

TASKS = 10
# Five megabytes at once, and still there when the last of the ten has begun.
COMMAND = "yes 0123456789 | head -c 5000000; sleep 5"
SECRETS = {f"SECRET_{number}": f"a-secret-value-of-some-length-{number:03}" for number in range(20)}


async def measure(ground: Ground) -> list[Figure]:
    windows = Windows()
    async with ground.with_runner(TASKS) as site:
        stacks = [await site.stack(f"bench-{number}") for number in range(TASKS)]
        for stack_id in stacks:
            await site.client.stacks.set_environment(stack_id, secrets=SECRETS)
        for _ in range(WINDOWS):
            async with windows.window() as values:
                processes.forget_peak(site.runner.pid)
                await _all_at_once(site, stacks)
                values["rss_runner"] = processes.peak_rss_mib(site.runner.pid)
    return windows.figures()


async def _all_at_once(site: Site, stacks: list[str]) -> None:
    client = site.client
    runs = [await client.runs.create_task(stack_id, COMMAND) for stack_id in stacks]
    await asyncio.gather(*(house.reached(client, run.id, "PERFORMING") for run in runs))
    performing = [run.id async for run in client.runs.list(states=["performing"])]
    if len(performing) != TASKS:
        raise RuntimeError(f"only {len(performing)} of {TASKS} tasks performed at once")
    await asyncio.gather(*(client.runs.wait(run.id) for run in runs))
