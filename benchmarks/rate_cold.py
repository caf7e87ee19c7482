"""Forty tasks on forty stacks, four at once, over forty `docker run --rm`, four at once."""

from __future__ import annotations

import asyncio

from benchmarks import pairs
from benchmarks.ground import Ground
from benchmarks.results import Figure

COMMAND = "true"
TASKS = 40
AT_ONCE = 4


async def measure(ground: Ground) -> list[Figure]:
    async with ground.with_runner(AT_ONCE) as site:
        stacks = [await site.stack(f"bench-{number}") for number in range(TASKS)]

        async def ours() -> None:
            await asyncio.gather(*(site.run(stack_id, COMMAND) for stack_id in stacks))

        async def docker() -> None:
            few_at_once = asyncio.Semaphore(AT_ONCE)

            async def one() -> None:
                async with few_at_once:
                    await pairs.docker_run(ground, COMMAND)

            await asyncio.gather(*(one() for _ in range(TASKS)))

        return [pairs.rate_ratio("rate_cold", await pairs.measure(ours, docker))]
