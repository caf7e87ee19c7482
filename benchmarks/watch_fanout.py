"""MB/s that 1000 watchers of one run get together, over what one alone gets."""

from __future__ import annotations

import asyncio
import statistics
import sys
from asyncio.subprocess import PIPE

from benchmarks.ground import Ground, access_token
from benchmarks.results import Figure

WATCHERS = 1000
ROUNDS = 5
SECONDS = 6.0
OUTPUT_BYTES = 64 << 20
COMMAND = f"yes {'x' * 99} | head -c {OUTPUT_BYTES}"


async def measure(ground: Ground) -> list[Figure]:
    async with ground.with_runner() as site:
        run = await site.client.runs.create_task(await site.stack("bench"), COMMAND)
        async for _ in site.client.runs.follow(run.id):
            pass
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.readers", site.house.address, await access_token(site.house), run.id,
            stdin=PIPE, stdout=PIPE,
        )  # fmt: skip
        await _rate(process, 1)  # what is read is in memory from then on
        alone, together = [], []
        for _ in range(ROUNDS):
            alone.append(await _rate(process, 1))
            together.append(await _rate(process, WATCHERS))
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
    ratios = [many / one for one, many in zip(alone, together, strict=True)]
    taken_from = (
        f"median of {ROUNDS} pairs, {statistics.median(alone) / 1e6:.0f} MB/s alone, "
        f"{statistics.median(together) / 1e6:.0f} MB/s together"
    )
    return [Figure("watch_fanout", statistics.median(ratios), ratios, taken_from)]


async def _rate(process: asyncio.subprocess.Process, watchers: int) -> float:
    """Bytes per second that so many watchers get together."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{watchers} {SECONDS}\n".encode())
    await process.stdin.drain()
    if not (answer := await process.stdout.readline()):
        raise RuntimeError(f"the {watchers} watchers broke off")
    return float(answer)
