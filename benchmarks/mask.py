"""The masker's throughput per CPU second, with 20 and with 2000 secrets. CPU time is ours alone, so noise counts less:
the median of the windows, not the quietest."""

from __future__ import annotations

import asyncio
import statistics

from benchmarks import masking
from benchmarks.ground import Ground
from benchmarks.results import Figure


async def measure(_: Ground) -> list[Figure]:
    figures = []
    for count in (20, 2000):
        rates = await asyncio.to_thread(masking.windows, count)
        taken_from = f"median of {len(rates)} windows"
        figures.append(Figure(f"mask_{count}", statistics.median(rates), rates, taken_from))
    return figures
