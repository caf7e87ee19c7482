"""One task as task_cold measures it, with three replicas on PostgreSQL and an object store, over one control plane on
SQLite and files. The watcher is at another replica than the runner, so that what it sees went through the store."""

from __future__ import annotations

from benchmarks import pairs
from benchmarks.ground import Ground
from benchmarks.results import Figure
from benchmarks.task_cold import COMMAND, require

PAIRS = 20


async def measure(ground: Ground) -> list[Figure]:
    async with ground.with_runner() as alone, ground.replicated() as together:
        stack_alone, stack_together = await alone.stack("bench"), await together.stack("bench")

        async def on_sqlite() -> None:
            require(await alone.run(stack_alone, COMMAND))

        async def on_three() -> None:
            require(await together.run(stack_together, COMMAND))

        measured = await pairs.measure(on_three, on_sqlite, pairs=PAIRS)
        return [pairs.time_ratio("ha_task_overhead", measured)]
