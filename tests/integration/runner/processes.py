"""The runner as a real process, started and killed by tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import docker
from docker.models.containers import Container

from runner import labels


class RunnerProcess:
    """`python -m runner` in a folder of its own."""

    def __init__(self, folder: Path, address: str, **environment: str) -> None:
        self.folder = folder
        self._environment = {
            **os.environ,
            "INTERLOCK_ADDRESS": address,
            "INTERLOCK_POOL_TOKEN": "ptk_test.secret",
            "INTERLOCK_RUNNER_DIR": str(folder),
            **environment,
        }
        self._log = folder.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "runner"], env=self._environment, stderr=log
            )

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, timeout_s: float = 30) -> int:
        assert self._process is not None
        return self._process.wait(timeout_s)

    async def drained(self) -> None:
        """Asks it to end, which it does when nothing is left to do."""
        self.signal(signal.SIGTERM)
        assert await asyncio.to_thread(self.wait) == 0

    async def until_logged(self, event: str) -> None:
        async with asyncio.timeout(30):
            while not self.logged(event):
                await asyncio.sleep(0.05)  # a file tells nobody that it grew

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def text(self) -> str:
        """All that it and its predecessors have written."""
        return self._log.read_text()

    def log(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.text().splitlines() if line.startswith("{")]

    def logged(self, event: str) -> list[dict[str, object]]:
        return [line for line in self.log() if line["event"] == event]

    def containers(self, client: docker.DockerClient) -> list[Container]:
        """Those of runs."""
        return [each for each in self.all_containers(client) if not labels.is_waiting_name(each.name or "")]

    def warm(self, client: docker.DockerClient) -> list[Container]:
        """Those that wait for a run."""
        return [each for each in self.all_containers(client) if labels.is_waiting_name(each.name or "")]

    def all_containers(self, client: docker.DockerClient) -> list[Container]:
        """All that it has made and not removed."""
        runner_id = (self.folder / "runner-id").read_text().strip()
        mine: dict[str, str | list[str] | bool] = {"label": f"{labels.RUNNER}={runner_id}"}
        found: list[Container] = client.containers.list(all=True, filters=mine, ignore_removed=True)
        return found
