"""`make soak`: injects faults for a given time and says what came out; SECONDS and SEED choose which. One half of the
time one control plane on SQLite and a Docker Engine that is restarted, the other half two on PostgreSQL and an object
store that is cut off."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from scripts import postgres
from tests.soak import page
from tests.soak.soak import END_S, Outcome, soak

CACHE = Path(__file__).resolve().parents[2] / ".cache"
KINDS = ("sqlite", "postgresql")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--seed", default="")
    parser.add_argument("--database", choices=KINDS, help="the whole time on this one")
    parser.add_argument("--patience", type=float, default=END_S, help="seconds after the last fault")
    parser.add_argument("--quiet", action="store_true", help="do not print each fault")
    parser.add_argument(
        "--keep",
        action="store_true",
        help=f"write what was survived into docs/faults.md and benchmarks/latest.json, from {page.LONG_S:g} s on",
    )
    options = parser.parse_args(arguments)
    seed = options.seed or secrets.token_hex(4)
    kinds = [options.database] if options.database else list(KINDS)
    # Every stream that breaks off would say so.
    logging.getLogger("interlock").setLevel(logging.ERROR)
    outcomes = {}
    for kind in kinds:
        outcomes[kind] = _run(kind, seed, options.seconds / len(kinds), options)
    if any(outcome.violations for outcome in outcomes.values()):
        return 1
    if options.keep and not options.database:
        page.keep(outcomes, seed, options.seconds)
    return 0


def _run(kind: str, seed: str, seconds: float, options: argparse.Namespace) -> Outcome:
    print(f"soak of {seconds:g} s on {kind}, seed {seed}", flush=True)
    began = time.monotonic()
    CACHE.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir=CACHE))
    with postgres.running() if kind == "postgresql" else contextlib.nullcontext() as cluster:
        outcome = asyncio.run(
            soak(
                folder,
                os.environ["DOCKER_HOST"],
                os.environ["INTERLOCK_TEST_IMAGE"],
                seed=seed,
                seconds=seconds,
                cluster=cluster,
                has_engine=cluster is None,
                end_s=options.patience,
                is_quiet=options.quiet,
            )
        )
    for what, count in sorted(outcome.injected.items()):
        print(f"  {count:4d} x {what}")
    print(f"{outcome.summary()}, took {time.monotonic() - began:.0f} s", flush=True)
    for violation in outcome.violations:
        print(f"VIOLATION {violation}", flush=True)
    if not outcome.violations:
        # Else its logs tell more.
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
