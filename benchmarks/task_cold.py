"""One task from CreateTask to finished with all output seen, over `docker run --rm` of the same command."""

from __future__ import annotations

from benchmarks import pairs
from benchmarks.ground import Ground
from benchmarks.results import Figure

COMMAND = "echo hi"
PAIRS = 20


async def measure(ground: Ground) -> list[Figure]:
    async with ground.with_runner() as site:
        stack_id = await site.stack("bench")

        async def ours() -> None:
            require(await site.run(stack_id, COMMAND))

        async def docker() -> None:
            require(await pairs.docker_run(ground, COMMAND))

        return [pairs.time_ratio("task_cold", await pairs.measure(ours, docker, pairs=PAIRS))]


def require(output: bytes) -> None:
    """The command's output was seen."""
    if b"hi\n" not in output:
        raise RuntimeError(f"output is missing: {output!r}")
