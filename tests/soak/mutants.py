"""`make mutants`: puts one bug after the other into a copy of the code, and lets soaks or the model look for it, until
one is red. The code as it is comes first, and must stay green.

    python -m tests.soak.mutants [--only NAME…] [--keep]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import results
from tests.soak.bugs import BUGS, Bug, Finder
from tests.soak.page import PAGE

ROOT: Final = Path(__file__).resolve().parents[2]
_CACHE: Final = ROOT / ".cache"
# Made by set-up, and not in git.
_GENERATED: Final = ("interlock/v1", "interlock/_vendor", "proto/buf")
# The first two kill the control plane most often.
_SEEDS: Final = tuple(f"mutant-{number}" for number in (5, 8, 1, 2, 3, 4, 6, 7))
_SOAK_S: Final = 60
# What is still waiting so long after the last fault is stuck: a bug that never lets a run end shows so.
_PATIENCE_S: Final = 60
_MODEL: Final = "tests/integration/runs/model/test_model.py"
_BEGIN, _END = "<!-- mutants: written by make mutants -->\n", "<!-- end of mutants -->\n"


@dataclass(frozen=True)
class Look:
    """One soak, or the model once. `finding` is empty where it stayed green."""

    by: str
    faults: int
    finding: str


@dataclass(frozen=True)
class Verdict:
    what: str
    looks: Sequence[Look]
    took_s: float

    @property
    def is_found(self) -> bool:
        return bool(self.looks[-1].finding)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.mutants")
    parser.add_argument("--only", nargs="+", choices=[bug.name for bug in BUGS], metavar="NAME")
    parser.add_argument("--keep", action="store_true", help="write the table into docs/faults.md")
    options = parser.parse_args(arguments)
    if not options.only:
        sound = [_judge(None, finder, _SEEDS[:1]) for finder in ("soak", "model")]
        if any(verdict.is_found for verdict in sound):
            return 1
    wanted = [bug for bug in BUGS if not options.only or bug.name in options.only]
    verdicts = [_judge(bug, bug.finder, _SEEDS) for bug in wanted]
    if options.keep and not options.only:
        _keep(verdicts)
    return 0 if all(verdict.is_found for verdict in verdicts) else 1


def _judge(bug: Bug | None, finder: Finder, seeds: Sequence[str]) -> Verdict:
    what = bug.what if bug else "the code as it is"
    print(f"{what}:", flush=True)
    began = time.monotonic()
    looks: list[Look] = []
    with _copy() as root:
        for edit in bug.edits if bug else ():
            edit.apply(root)
        for seed in seeds if finder == "soak" else seeds[:1]:
            looks.append(_soak(root, seed) if finder == "soak" else _model(root))
            found = looks[-1].finding or "nothing found"
            print(f"  {looks[-1].by}, {looks[-1].faults} faults: {found}", flush=True)
            if looks[-1].finding:
                break
    return Verdict(what, looks, time.monotonic() - began)


@contextmanager
def _copy() -> Iterator[Path]:
    """The working tree without what git ignores, but with the stubs and the tools that set-up made."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="m-", dir=_CACHE) as folder:
        root = Path(folder)
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, root / name)
        for generated in _GENERATED:
            if (ROOT / generated).exists():
                shutil.copytree(ROOT / generated, root / generated, dirs_exist_ok=True)
        (root / ".cache").mkdir()
        (root / ".cache" / "bin").symlink_to(_CACHE / "bin")
        yield root


def _soak(root: Path, seed: str) -> Look:
    said = _run(
        root, "tests.soak", "--seconds", f"{_SOAK_S}", "--seed", seed, "--database", "sqlite",
        "--patience", f"{_PATIENCE_S}", "--quiet",
    )  # fmt: skip
    faults = re.search(r"^(\d+) faults", said.stdout, re.MULTILINE)
    found = re.search(r"^VIOLATION (.*)$", said.stdout, re.MULTILINE)
    if faults is None or (said.returncode and found is None):
        raise RuntimeError(f"the soak broke off:\n{said.stdout[-2000:]}{said.stderr[-4000:]}")
    return Look(f"soak of {_SOAK_S} s, seed {seed}", int(faults[1]), found[1] if found else "")


def _model(root: Path) -> Look:
    said = _run(root, "pytest", "-q", "-x", "-k", "sqlite", "--no-header", _MODEL)
    found = re.search(r"^E +(\S.*)$", said.stdout, re.MULTILINE)
    if said.returncode and found is None:
        raise RuntimeError(f"the model broke off:\n{said.stdout[-4000:]}{said.stderr[-2000:]}")
    return Look("model", 0, found[1] if found and said.returncode else "")


def _run(root: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


def _keep(verdicts: Sequence[Verdict]) -> None:
    rows = ["| bug | found by | after | as |", "| --- | --- | --- | --- |"]
    for verdict in verdicts:
        last = verdict.looks[-1]
        faults = sum(look.faults for look in verdict.looks)
        after = f"{faults} faults in {len(verdict.looks)} soaks" if faults else f"{verdict.took_s:.0f} s"
        rows.append(f"| {verdict.what} | {last.by} | {after} | {_anonymous(last.finding) or 'not found'} |")
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    after_page = rest.partition(_END)[2]
    table = "\n".join(rows) + "\n"
    PAGE.write_text(before + _BEGIN + results.heading("make mutants") + table + _END + after_page)


def _anonymous(finding: str) -> str:
    """Without the ids of that one run."""
    return re.sub(r"run_[0-9a-z]{26}", "a run", finding).replace("|", "\\|")[:160]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
