"""The processes of the demonstration: replicas that are killed and started again, runners that stay."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

START_S = 60.0
_LOOK_S = 0.05


class PartFailed(Exception):
    """A process did not do what it was started for; the text ends with its log."""


@dataclass(eq=False)
class Part:
    """One process with a log."""

    module: str
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                env={**_without_ours(os.environ), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL: it can put nothing in order."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def count(self, event: str) -> int:
        """How often its log has this event, over restarts."""
        return self.log.read_bytes().count(event.encode()) if self.log.exists() else 0

    async def logged(self, event: str, times: int = 1) -> None:
        """Returns once it has logged the event so often. Raises PartFailed where it ends, or takes too long."""
        deadline = asyncio.get_running_loop().time() + START_S
        while self.count(event) < times:
            ended = self.process is None or self.process.poll() is not None
            if ended or asyncio.get_running_loop().time() > deadline:
                tail = self.log.read_text(errors="replace")[-2000:]
                raise PartFailed(f"{self.module} did not come to {event}; the end of {self.log}:\n{tail}")
            await asyncio.sleep(_LOOK_S)


@dataclass(eq=False)
class Replica:
    """One control plane of several, with a data folder and an OPA of its own."""

    number: int
    folder: Path
    shared: Mapping[str, str]
    address: str = field(default="", init=False)
    starts: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.part = self._part("127.0.0.1:0")

    async def start(self) -> None:
        """At the same address as before, where it had one."""
        self.starts += 1
        self.part.start()
        await self.part.logged("server.ready", self.starts)
        if not self.address:
            self.address = json.loads((self.folder / "server.json").read_text())["address"]
            process, self.part = self.part.process, self._part(self.address)
            self.part.process = process

    def _part(self, listen: str) -> Part:
        own = {"INTERLOCK_DATA_DIR": str(self.folder), "INTERLOCK_LISTEN": listen}
        return Part(
            "control_plane", {**self.shared, **own}, self.folder.with_name(f"replica-{self.number}.log")
        )


def runner(name: str, folder: Path, addresses: str, token: str, engine_url: str) -> Part:
    """A runner that knows all replicas and dials the first of `addresses` first."""
    environment = {
        "INTERLOCK_ADDRESS": addresses,
        "INTERLOCK_POOL_TOKEN": token,
        "INTERLOCK_RUNNER_DIR": str(folder / f"runner-{name}"),
        "INTERLOCK_RUNNER_NAME": name,
        "DOCKER_HOST": engine_url,
    }
    return Part("runner", environment, folder / f"runner-{name}.log")


def _without_ours(environ: Mapping[str, str]) -> dict[str, str]:
    """Whoever plays the demonstration may have an Interlock of their own in the environment."""
    return {name: value for name, value in environ.items() if not name.startswith("INTERLOCK_")}
