"""Ratios on a noisy machine: both sides in turn, so that what disturbs one disturbs the other; the pairs' median."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from benchmarks.ground import Ground
from benchmarks.results import Figure

PAIRS = 10


@dataclass(frozen=True)
class Pair:
    ours_s: float
    docker_s: float


async def _at_once() -> None:
    """Nothing to get ready."""


async def measure(
    ours: Callable[[], Awaitable[object]],
    docker: Callable[[], Awaitable[object]],
    *,
    pairs: int = PAIRS,
    get_ready: Callable[[], Awaitable[object]] = _at_once,
) -> list[Pair]:
    """Who goes first alternates. One round of each before is not counted, and neither is `get_ready` before a pair."""
    await ours()
    await docker()
    measured = []
    for number in range(pairs):
        await get_ready()
        if number % 2:
            ours_s, docker_s = await _seconds(ours), await _seconds(docker)
        else:
            docker_s, ours_s = await _seconds(docker), await _seconds(ours)
        measured.append(Pair(ours_s, docker_s))
    return measured


def time_ratio(name: str, pairs: Sequence[Pair]) -> Figure:
    """Our time over docker's."""
    return _figure(name, [pair.ours_s / pair.docker_s for pair in pairs], pairs)


def rate_ratio(name: str, pairs: Sequence[Pair]) -> Figure:
    """Our rate over docker's, for the same work."""
    return _figure(name, [pair.docker_s / pair.ours_s for pair in pairs], pairs)


async def docker_run(ground: Ground, command: str) -> bytes:
    """`docker run --rm` until it has ended and all its output was read; the output."""
    process = await asyncio.create_subprocess_exec(
        *ground.docker("run", "--rm", ground.image, "sh", "-c", command), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"docker run of {command!r} ended with {process.returncode}")
    return output


def _figure(name: str, ratios: Sequence[float], pairs: Sequence[Pair]) -> Figure:
    ours_s = statistics.median(pair.ours_s for pair in pairs)
    docker_s = statistics.median(pair.docker_s for pair in pairs)
    taken_from = f"median of {len(pairs)} pairs, {ours_s:.3g} s and {docker_s:.3g} s"
    return Figure(name, statistics.median(ratios), ratios, taken_from)


async def _seconds(work: Callable[[], Awaitable[object]]) -> float:
    began = time.monotonic()
    await work()
    return time.monotonic() - began
