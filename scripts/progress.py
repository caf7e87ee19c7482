"""Tells what set-up is doing: one line a step, rewritten in place on a terminal, plain lines elsewhere.

Everything goes to standard error, so that a script's standard output is its answer alone.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache"
BIN = CACHE / "bin"
STILL_AT_IT_S = 15.0


class SetupError(Exception):
    """Set-up cannot go on; the text says what the reader can do about it."""


@contextmanager
def answering() -> Iterator[None]:
    """Ends a script with the error's own text, without a traceback, when set-up cannot go on."""
    try:
        yield
    except SetupError as error:
        raise SystemExit(f"set-up: {error}") from error


class Step:
    """One thing that set-up does; `done` closes its line with what came of it."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._started = time.monotonic()
        self._on_terminal = sys.stderr.isatty()
        if self._on_terminal:
            self._rewrite(f"  {what} …")

    def note(self, text: str) -> None:
        if self._on_terminal:
            self._rewrite(f"  {self._what} … {text}")
        else:
            print(f"  {self._what}: {text}", file=sys.stderr, flush=True)

    def done(self, result: str) -> None:
        took = time.monotonic() - self._started
        line = f"  {self._what}: {result}" + (f" ({took:.0f} s)" if took >= 1 else "")
        if self._on_terminal:
            self._rewrite(line + "\n")
        else:
            print(line, file=sys.stderr, flush=True)

    @staticmethod
    def _rewrite(line: str) -> None:
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()


def run(
    step: Step,
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Runs a command that may take minutes, saying now and then that it still does.

    Its output is kept in a file and shown only when it fails.
    """
    CACHE.mkdir(exist_ok=True)
    log = CACHE / f"{Path(command[0]).name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env, cwd=cwd
        )
        started = time.monotonic()
        while (code := _ended(process)) is None:
            step.note(f"still at it after {time.monotonic() - started:.0f} s")
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SetupError(f"`{' '.join(command)}` failed with exit code {code}:\n{tail}\n(all of it: {log})")


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(timeout=STILL_AT_IT_S)
    except subprocess.TimeoutExpired:
        return None
