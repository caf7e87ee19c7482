"""`make bench`: measures everything, or what --only names, and says what was reached.

A whole run writes into benchmarks/latest.json and the table in docs/benchmarks.md; one with --only prints and keeps
nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks import (
    back,
    backtesting,
    create_task,
    decision,
    fail_open,
    forecast,
    ha_task_overhead,
    idle,
    mask,
    opa_restart,
    rate_cold,
    rate_warm,
    results,
    runner_memory,
    stream,
    task_cold,
    task_warm,
    uploading,
    watch_fanout,
    watch_lag,
)
from benchmarks.ground import Ground
from benchmarks.results import Figure

Measurement = Callable[[Ground], Awaitable[list[Figure]]]

# The short ones first: what is wrong shows early.
MEASUREMENTS: Final[dict[tuple[str, ...], Measurement]] = {
    ("task_cold",): task_cold.measure,
    ("task_warm",): task_warm.measure,
    ("ha_task_overhead",): ha_task_overhead.measure,
    ("create_task_p50", "create_task_p99", "create_task_rate"): create_task.measure,
    ("decision_over_bare_p50_ms", "decision_over_bare_p99_ms"): decision.measure,
    ("upload_s", "upload_stall_ms"): uploading.measure,
    ("backtest_per_s",): backtesting.measure,
    ("opa_restart_s",): opa_restart.measure,
    ("fail_open",): fail_open.measure,
    ("watch_lag_p99",): watch_lag.measure,
    ("watch_fanout",): watch_fanout.measure,
    ("back_control_plane_s", "back_runner_s", "back_opa_s"): back.measure,
    ("idle_cpu", "rss_control_plane"): idle.measure,
    ("rss_runner",): runner_memory.measure,
    ("mask_20", "mask_2000"): mask.measure,
    ("rate_cold",): rate_cold.measure,
    ("rate_warm",): rate_warm.measure,
    ("stream_200mb",): stream.measure,
}
NAMES: Final = [name for names in MEASUREMENTS for name in names]
_CACHE: Final = Path(__file__).parent.parent / ".cache"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME")
    wanted: list[str] | None = parser.parse_args(arguments).only
    figures = asyncio.run(_measure(wanted or NAMES))
    if wanted is None:
        results.keep(figures, "make bench")
        forecast.keep()
    missed = [figure.name for figure in figures if not figure.target.is_reached(figure.value)]
    print(
        f"{len(figures) - len(missed)} of {len(figures)} reached"
        + (f"; missed: {', '.join(missed)}" if missed else "")
    )
    return 0


async def _measure(wanted: Sequence[str]) -> list[Figure]:
    figures: list[Figure] = []
    _CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=_CACHE) as folder:
        ground = Ground(Path(folder), _required("DOCKER_HOST"), _required("INTERLOCK_TEST_IMAGE"))
        for names, measure in MEASUREMENTS.items():
            if set(names) & set(wanted):
                print(f"measuring {', '.join(names)} …", flush=True)
                began = time.monotonic()
                measured = await measure(ground)
                for figure in measured:
                    print(f"  {figure}", flush=True)
                print(f"  took {time.monotonic() - began:.0f} s", flush=True)
                figures += measured
    return figures


def _required(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise SystemExit(f"{variable} is not set: run `make bench`, which finds or makes what is needed")
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
