"""One task on a warm container from CreateTask to finished with all output seen, over `docker run --rm` of its command.

Its stack has no files, so both begin in an empty folder; files cost a warm container as much as a cold one.
"""

from __future__ import annotations

from benchmarks import pairs
from benchmarks.ground import Ground
from benchmarks.results import Figure
from benchmarks.task_cold import COMMAND, PAIRS, require

WARM = 2


async def measure(ground: Ground) -> list[Figure]:
    async with ground.with_runner(warm=WARM) as site:
        stack_id = await site.bare_stack("bench")

        async def ours() -> None:
            require(await site.run(stack_id, COMMAND))

        async def docker() -> None:
            require(await pairs.docker_run(ground, COMMAND))

        measured = await pairs.measure(ours, docker, pairs=PAIRS, get_ready=lambda: site.warmed(WARM))
        return [pairs.time_ratio("task_warm", measured)]
