"""What breaks first at a million stacks and ten thousand runners: simulates one hour of them with the rates that stand in
benchmarks/latest.json, and keeps the table in docs/scaling.md.

    python -m benchmarks.forecast            prints the table
    python -m benchmarks.forecast --keep     and writes it into the page, as `make bench` and `make bench-scale` do
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import results

PAGE: Final = Path(__file__).parent.parent / "docs" / "scaling.md"
_BEGIN, _END = "<!-- forecast: written by benchmarks/forecast.py -->\n", "<!-- end of forecast -->\n"

# The load, which the page states: half of the runners busy, and every full hour a tenth of the hour's runs at once.
STACKS: Final = 1_000_000
RUNNERS: Final = 10_000
BUSY: Final = 0.5
RUN_S: Final = 60.0
ON_THE_HOUR: Final = 0.1
REPLICAS: Final = 3
_SECONDS: Final = 3600
# What was measured: stacks behind `dispatch_rate_*`, watchers behind `idle_cpu`.
_MEASURED_STACKS: Final = 10_000
_MEASURED_WATCHERS: Final = 1000

RUNS_PER_S: Final = RUNNERS * BUSY / RUN_S
WATCHERS: Final = round(RUNNERS * BUSY)


@dataclass(frozen=True)
class Stage:
    """One thing that the load needs. `gives` is None where it was not measured yet."""

    what: str
    unit: str
    needs: float
    gives: float | None
    moved_by: str
    # It has to be passed one after the other: what comes at once waits there.
    is_queue: bool = True

    @property
    def used(self) -> float:
        return math.inf if self.gives is None else self.needs / self.gives


def stages(latest: Mapping[str, float]) -> list[Stage]:
    """What is used most comes first: it breaks first."""
    found = [
        Stage(
            "claims and ends, SQLite", "runs/s", RUNS_PER_S, _at_a_million(latest, "dispatch_rate_sqlite"),
            "PostgreSQL; SQLite has one control plane",
        ),
        Stage(
            "claims and ends, PostgreSQL", "runs/s", RUNS_PER_S, _at_a_million(latest, "dispatch_rate_pg"),
            "a larger machine for PostgreSQL alone; then several installations, each for a part of the stacks",
        ),
        Stage(
            f"CreateTask, {REPLICAS} replicas", "calls/s", RUNS_PER_S, _times(latest.get("create_task_rate"), REPLICAS),
            "more replicas: each has an OPA of its own",
        ),
        Stage(
            "a core for idle watchers", "%", _times(latest.get("idle_cpu"), WATCHERS / _MEASURED_WATCHERS) or 0.0, 100.0,
            "more replicas", is_queue=False,
        ),
    ]  # fmt: skip
    return sorted(found, key=lambda stage: (stage.gives is None, -stage.used))


def table(latest: Mapping[str, float]) -> str:
    rows = [
        "| what | needed | one such machine gives | used | longest wait | what moves it |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for stage in stages(latest):
        if stage.gives is None:
            rows.append(
                f"| {stage.what} | {stage.needs:.0f} {stage.unit} | not measured yet | | | {stage.moved_by} |"
            )
            continue
        wait = f"{longest_wait_s(stage.gives):.0f} s" if stage.is_queue else ""
        rows.append(
            f"| {stage.what} | {stage.needs:.0f} {stage.unit} | {stage.gives:.0f} {stage.unit} "
            f"| {100 * stage.used:.0f} % | {wait} | {stage.moved_by} |"
        )
    return "\n".join(rows) + "\n"


def longest_wait_s(rate_per_s: float) -> float:
    """Of the runs of one hour, those of the full hour included, in a queue that is served at this rate."""
    dice = random.Random("an hour")
    backlog = longest = 0.0
    burst = RUNS_PER_S * _SECONDS * ON_THE_HOUR
    for second in range(_SECONDS):
        mean = RUNS_PER_S * (1 - ON_THE_HOUR)
        arrived = max(dice.gauss(mean, math.sqrt(mean)), 0.0) + (burst if second == 0 else 0.0)
        backlog = max(backlog + arrived - rate_per_s, 0.0)
        longest = max(longest, backlog / rate_per_s)
    return longest


def keep() -> None:
    """Brings the page up to what was measured last."""
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    PAGE.write_text(before + _BEGIN + table(latest()) + _END + after)


def kept() -> str:
    """The table that stands in the page."""
    return PAGE.read_text().partition(_BEGIN)[2].partition(_END)[0]


def latest() -> dict[str, float]:
    measured = json.loads(results.LATEST.read_text())["results"]
    return {name: float(figure["value"]) for name, figure in measured.items()}


def _at_a_million(latest: Mapping[str, float], name: str) -> float | None:
    """The rate that was measured at ten thousand stacks, with the growth from ten to ten thousand carried on."""
    if name not in latest or "dispatch_growth" not in latest:
        return None
    more = math.log(STACKS / _MEASURED_STACKS) / math.log(_MEASURED_STACKS / 10)
    return float(latest[name] / max(latest["dispatch_growth"], 1.0) ** more)


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def main(arguments: Sequence[str]) -> int:
    print(table(latest()), end="")
    if "--keep" in arguments:
        keep()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
