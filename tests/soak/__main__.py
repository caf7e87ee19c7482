"""`make soak`: injects faults for a given time and says what came out; SECONDS and SEED choose which."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.soak.soak import soak

CACHE = Path(__file__).resolve().parents[2] / ".cache"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", default="")
    parser.add_argument("--quiet", action="store_true", help="do not print each fault")
    options = parser.parse_args(arguments)
    seed = options.seed or secrets.token_hex(4)
    # Every stream that breaks off would say so.
    logging.getLogger("interlock").setLevel(logging.ERROR)
    print(f"soak of {options.seconds:g} s, seed {seed}", flush=True)
    began = time.monotonic()
    CACHE.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir=CACHE))
    outcome = asyncio.run(
        soak(
            folder,
            os.environ["DOCKER_HOST"],
            os.environ["INTERLOCK_TEST_IMAGE"],
            seed=seed,
            seconds=options.seconds,
            is_quiet=options.quiet,
        )
    )
    for what, count in sorted(outcome.injected.items()):
        print(f"  {count:4d} x {what}")
    print(f"{outcome.summary()}, took {time.monotonic() - began:.0f} s")
    for violation in outcome.violations:
        print(f"VIOLATION {violation}")
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
