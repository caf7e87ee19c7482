"""200 MB of 100-byte lines through runner and control plane to a watcher, over `docker run --rm` into a pipe."""

from __future__ import annotations

import asyncio

from benchmarks import pairs
from benchmarks.ground import Ground, Site
from benchmarks.results import Figure
from interlock.types import OutputChunk

TOTAL_BYTES = 200_000_000
LINE = "x" * 99
COMMAND = f"yes {LINE} | head -c {TOTAL_BYTES}"

_READ_BYTES = 1 << 20


async def measure(ground: Ground) -> list[Figure]:
    async with ground.with_runner() as site:
        stack_id = await site.stack("bench")
        measured = await pairs.measure(lambda: _watched(site, stack_id), lambda: _piped(ground))
        return [pairs.rate_ratio("stream_200mb", measured)]


async def _watched(site: Site, stack_id: str) -> None:
    run = await site.client.runs.create_task(stack_id, COMMAND)
    seen = 0
    async for event in site.client.runs.follow(run.id):
        if isinstance(event, OutputChunk):
            seen += len(event.data)
    _require(seen)


async def _piped(ground: Ground) -> None:
    process = await asyncio.create_subprocess_exec(
        *ground.docker("run", "--rm", ground.image, "sh", "-c", COMMAND),
        stdout=asyncio.subprocess.PIPE,
        limit=_READ_BYTES,
    )
    assert process.stdout is not None
    seen = 0
    while data := await process.stdout.read(_READ_BYTES):
        seen += len(data)
    await process.wait()
    _require(seen)


def _require(seen: int) -> None:
    if seen < TOTAL_BYTES:
        raise RuntimeError(f"only {seen} of {TOTAL_BYTES} bytes arrived")
