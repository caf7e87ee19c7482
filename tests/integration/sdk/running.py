"""`interlock dev` as a user starts it, and commands as a user types them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CLI = [sys.executable, "-m", "interlock.cli"]
READY_S = 60


class Dev:
    """One `interlock dev` with a folder and a profile file of its own."""

    def __init__(self, place: Path, *, opa: Path) -> None:
        self.data_dir = place / "data"
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")
        }
        self.environ |= {"INTERLOCK_PROFILES_FILE": str(place / "profiles.toml"), "INTERLOCK_OPA": str(opa)}
        self._log = place / "dev.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def start(self) -> str:
        """Returns what it printed until it was ready."""
        with self._log.open("wb") as log:
            command = [*CLI, "dev", "--data-dir", str(self.data_dir)]
            self._process = subprocess.Popen(
                command, env=self.environ, stdout=log, stderr=log, start_new_session=True
            )
        eventually(
            lambda: "Ctrl-C here" in self.printed() or self.process.poll() is not None, within_s=READY_S
        )
        assert self.process.poll() is None, self.printed()
        return self.printed()

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=60)

    def printed(self) -> str:
        return self._log.read_text()

    def run(self, *arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """One `interlock` command."""
        done = subprocess.run(
            [*CLI, *arguments],
            env=self.environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """One `interlock` command that goes on, without a terminal."""
        return subprocess.Popen(
            [*CLI, *arguments],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


def eventually(holds: Callable[[], bool], *, within_s: float = 30) -> None:
    """Waits for another process. Fails where it takes too long."""
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def descendants(pid: int) -> set[int]:
    """Processes that this one started, directly or not."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
            except OSError:
                continue  # it has just ended
            parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    found: set[int] = set()
    newest = {pid}
    while newest:
        newest = {child for child, parent in parents.items() if parent in newest}
        found |= newest
    return found


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
