"""A command as somebody runs it in a terminal: its lines as they come, its end, Ctrl-C."""

import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path


class Stuck(Exception):
    """The command neither ended nor said what was waited for."""


class Running:
    """A command that was started; in a session of its own, so that the demo alone decides who gets Ctrl-C."""

    def __init__(self, command: str, *, environ: Mapping[str, str], folder: Path, keeps_answer: bool) -> None:
        self._process = subprocess.Popen(
            shlex.split(command),
            env=environ,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if keeps_answer else subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._keeps_answer = keeps_answer
        self._lines: list[str] = []
        self._shown = 0
        self._is_over = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        """All of it so far."""
        return "\n".join(self._lines[: self._shown])

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def lines(self, *, until: str, within_s: float) -> Iterator[str]:
        """The lines that nobody has had yet, up to the one with `until`, or all. Raises Stuck."""
        deadline = time.monotonic() + within_s
        while True:
            with self._news:
                while self._shown == len(self._lines) and not self._is_over:
                    if not self._news.wait(max(0.0, deadline - time.monotonic())):
                        raise Stuck(f"nothing more came within {within_s:.0f} s")
                if self._shown == len(self._lines):
                    break
                line = self._lines[self._shown]
                self._shown += 1
            yield line
            if until and until in line:
                return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=max(0.0, deadline - time.monotonic()))

    def answer(self) -> str:
        """Its standard output, after its end."""
        assert self._process.stdout is not None
        return self._process.stdout.read().strip()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._signal(signal.SIGINT)

    def end(self, *, patience_s: float) -> None:
        """Ctrl-C, and after `patience_s` the end."""
        self.interrupt()
        try:
            self._process.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _read(self) -> None:
        stream = self._process.stderr if self._keeps_answer else self._process.stdout
        assert stream is not None
        for line in stream:
            with self._news:
                self._lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._is_over = True
            self._news.notify_all()
