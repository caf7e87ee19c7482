"""Keeps what the last long soak survived: in docs/faults.md and as `faults_survived` in benchmarks/latest.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks import results
from benchmarks.results import Figure
from tests.soak.soak import Outcome

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
# What is shorter is no long run, and leaves no mark.
LONG_S: Final = 600.0
_BEGIN, _END = "<!-- latest: written by make soak -->\n", "<!-- end of latest -->\n"
_KINDS: Final = {
    "sqlite": "one control plane on SQLite, a Docker Engine that is restarted",
    "postgresql": "two control planes on PostgreSQL",
}


def keep(outcomes: Mapping[str, Outcome], seed: str, seconds: float) -> None:
    """Of a run without violations. Does nothing where it was short."""
    if seconds < LONG_S:
        print(f"not kept: it was shorter than {LONG_S:g} s")
        return
    command = f"make soak SECONDS={seconds:g} SEED={seed}"
    counts = [float(sum(outcome.injected.values())) for outcome in outcomes.values()]
    figure = Figure(
        "faults_survived", sum(counts), counts, f"{seconds:g} s, seed {seed}: {', '.join(outcomes)}"
    )
    results.merge([figure], command)
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    PAGE.write_text(before + _BEGIN + results.heading(command) + _told(outcomes) + _END + after)
    print(figure)


def _told(outcomes: Mapping[str, Outcome]) -> str:
    lines = [f"- {_KINDS[kind]}: {outcome.summary()}.\n" for kind, outcome in outcomes.items()]
    kinds: Counter[str] = Counter()
    for outcome in outcomes.values():
        for what, count in outcome.injected.items():
            kind, _, target = what.partition(" of ")
            kinds[f"{kind} | {target.partition('-')[0]}"] += count
    rows = "".join(f"| {what} | {count} |\n" for what, count in sorted(kinds.items()))
    return "".join(lines) + "\n| fault | of | times |\n| --- | --- | --- |\n" + rows
