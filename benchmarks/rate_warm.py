"""Forty tasks on forty stacks, four at once, on a pool of forty warm containers, over forty `docker run --rm`.

A burst that the pool can take: what it makes again afterwards, between the pairs, is not counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from benchmarks import pairs
from benchmarks.ground import Ground
from benchmarks.rate_cold import AT_ONCE, COMMAND, TASKS
from benchmarks.results import Figure

PAIRS = 6


async def measure(ground: Ground) -> list[Figure]:
    async with ground.with_runner(TASKS, warm=TASKS) as site:
        stacks = [await site.bare_stack(f"bench-{number}") for number in range(TASKS)]

        async def ours() -> None:
            await _few_at_once(lambda number: site.run(stacks[number], COMMAND))

        async def docker() -> None:
            await _few_at_once(lambda _: pairs.docker_run(ground, COMMAND))

        measured = await pairs.measure(ours, docker, pairs=PAIRS, get_ready=lambda: site.warmed(TASKS))
        return [pairs.rate_ratio("rate_warm", measured)]


async def _few_at_once(work: Callable[[int], Awaitable[object]]) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with room:
            await work(number)

    await asyncio.gather(*(one(number) for number in range(TASKS)))
