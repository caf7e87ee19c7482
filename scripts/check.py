"""Runs every check of `make check` side by side and shows the output of those that fail."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scripts import opa
from scripts.progress import answering

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
TYPED = (
    "control_plane",
    "interlock",
    "policies",
    "runner",
    "scripts",
    "benchmarks",
    "tests",
    "hatch_build.py",
)
NO_DATA = ("--ignore", "*.json")  # the schemas are not documents for policies to read


@dataclass(frozen=True)
class Check:
    name: str
    command: Sequence[str]


@dataclass(frozen=True)
class Outcome:
    check: Check
    passed: bool
    took_s: float
    output: str


def main() -> int:
    with answering():
        opa_path = str(opa.ensure())
    checks = [
        Check("types", [str(BIN / "mypy"), "--strict", *(name for name in TYPED if (ROOT / name).exists())]),
        Check("lint", [str(BIN / "ruff"), "check", "."]),
        Check("format", [str(BIN / "ruff"), "format", "--check", "."]),
        Check("docs", [sys.executable, "-m", "scripts.docs"]),
        Check("cookbook", [sys.executable, "-m", "scripts.cookbook", "--check"]),
        Check("proto", [str(BIN / "buf"), "lint"]),
        Check("rego format", [opa_path, "fmt", "--list", "--fail", "policies"]),
        Check("rego types", [opa_path, "check", "--strict", *NO_DATA, "policies"]),
        Check("rego tests", [opa_path, "test", "--fail-on-empty", *NO_DATA, "policies"]),
    ]
    # Types take longest and are first in the queue; two at a time keeps two cores busy.
    with ThreadPoolExecutor(max_workers=2) as pool:
        outcomes = list(pool.map(run, checks))
    for outcome in outcomes:
        if not outcome.passed:
            print(f"\n--- {outcome.check.name}: {' '.join(outcome.check.command)}\n{outcome.output}")
    failed = [outcome.check.name for outcome in outcomes if not outcome.passed]
    print(f"checks failed: {', '.join(failed)}" if failed else "all checks passed", file=sys.stderr)
    return 1 if failed else 0


def run(check: Check) -> Outcome:
    started = time.monotonic()
    ran = subprocess.run(
        check.command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
    )
    outcome = Outcome(check, ran.returncode == 0, time.monotonic() - started, ran.stdout)
    verdict = "passed" if outcome.passed else "FAILED"
    print(f"  {check.name}: {verdict} ({outcome.took_s:.1f} s)", file=sys.stderr, flush=True)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
