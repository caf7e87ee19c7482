"""What is measured, what is to be reached, and how a run of the benchmarks is shown and kept."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

Better = Literal["lower", "higher"]

LATEST: Final = Path(__file__).with_name("latest.json")
PAGE: Final = Path(__file__).parent.parent / "docs" / "benchmarks.md"
_BEGIN, _END = "<!-- latest: written by make bench -->\n", "<!-- end of latest -->\n"


@dataclass(frozen=True)
class Target:
    unit: str
    target: float
    better: Better

    def is_reached(self, value: float) -> bool:
        return value <= self.target if self.better == "lower" else value >= self.target

    def __str__(self) -> str:
        return f"{'≤' if self.better == 'lower' else '≥'} {self.target:g}"


TARGETS: Final = {
    "task_cold": Target("of docker run", 1.15, "lower"),
    "ha_task_overhead": Target("of task_cold on SQLite", 1.2, "lower"),
    "rate_cold": Target("of docker run", 0.9, "higher"),
    "task_warm": Target("of docker run", 0.35, "lower"),
    "rate_warm": Target("of docker run", 2.0, "higher"),
    "stream_200mb": Target("of docker run", 1.0, "higher"),
    "mask_20": Target("MB per CPU second", 800, "higher"),
    "mask_2000": Target("MB per CPU second", 400, "higher"),
    "create_task_p50": Target("ms", 8, "lower"),
    "create_task_p99": Target("ms", 30, "lower"),
    "create_task_rate": Target("per second", 300, "higher"),
    "watch_lag_p99": Target("ms", 150, "lower"),
    "watch_fanout": Target("of one watcher's rate", 0.8, "higher"),
    "back_control_plane_s": Target("s", 5, "lower"),
    "back_runner_s": Target("s", 5, "lower"),
    "back_opa_s": Target("s", 2, "lower"),
    "decision_over_bare_p50_ms": Target("ms", 5, "lower"),
    "decision_over_bare_p99_ms": Target("ms", 15, "lower"),
    "upload_s": Target("s", 1, "lower"),
    "upload_stall_ms": Target("ms", 50, "lower"),
    "backtest_per_s": Target("decisions per second", 2000, "higher"),
    "opa_restart_s": Target("s", 2, "lower"),
    "fail_open": Target("tasks wrongly allowed", 0, "lower"),
    "idle_cpu": Target("% of a core", 3, "lower"),
    "rss_control_plane": Target("MiB", 150, "lower"),
    "rss_runner": Target("MiB", 120, "lower"),
    # By `make bench-scale`.
    "dispatch_growth": Target("of 10 x 10 queued", 1.5, "lower"),
    "dispatch_rate_sqlite": Target("per second", 1000, "higher"),
    "dispatch_rate_pg": Target("per second", 500, "higher"),
    "idle_queries_per_s": Target("per second", 5, "lower"),
    # By `make soak`.
    "faults_survived": Target("faults", 500, "higher"),
}


@dataclass(frozen=True)
class Figure:
    """One measured value. `samples` are the windows or pairs that it was taken from, in order of time."""

    name: str
    value: float
    samples: Sequence[float]
    # What the samples are, as in "five windows, quietest 3rd" or "ratios of 10 pairs".
    taken_from: str

    @property
    def target(self) -> Target:
        return TARGETS[self.name]

    def __str__(self) -> str:
        verdict = "reached" if self.target.is_reached(self.value) else "MISSED"
        return (
            f"{self.name}: {self.value:.4g} {self.target.unit} (target {self.target}: {verdict}); "
            f"{self.taken_from}: {_listed(self.samples)}"
        )


def keep(figures: Sequence[Figure], command: str) -> None:
    """Writes latest.json, and the table in docs/benchmarks.md."""
    merge(figures, command)
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    PAGE.write_text(before + _BEGIN + heading(command) + _table(figures) + _END + after)


def merge(figures: Sequence[Figure], command: str) -> None:
    """Puts figures into latest.json, and leaves there what other commands have measured."""
    date = _now()
    latest = json.loads(LATEST.read_text()) if LATEST.exists() else {"results": {}}
    latest["results"] |= {
        figure.name: {
            "value": round(figure.value, 4),
            "unit": figure.target.unit,
            "target": figure.target.target,
            "better": figure.target.better,
            "command": command,
            "date": date,
        }
        for figure in figures
    }
    latest |= {"machine": machine(), "date": date, "commit": commit()}
    LATEST.write_text(json.dumps(latest, indent=2) + "\n")


def heading(command: str) -> str:
    """The line above a table: by which command, when, of which commit, on which machine."""
    return f"`{command}` on {_now()}, commit {commit()}, {machine()}.\n\n"


def machine() -> str:
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory_kib = next(int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal"))
    return f"{os.cpu_count()} x {model}, {round(memory_kib / (1 << 20))} GiB, Linux {platform.release()}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _table(figures: Sequence[Figure]) -> str:
    rows = ["| name | value | target | taken from |", "| --- | --- | --- | --- |"]
    rows += [
        f"| {figure.name} | {figure.value:.4g} {figure.target.unit} | {figure.target} "
        f"| {figure.taken_from}: {_listed(figure.samples)} |"
        for figure in figures
    ]
    return "\n".join(rows) + "\n"


def _listed(samples: Sequence[float]) -> str:
    return ", ".join(f"{sample:.3g}" if sample < 1000 else f"{sample:.0f}" for sample in samples)


def commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parent,
    ).stdout.strip()  # fmt: skip


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
