"""Finds a Docker Engine that answers, or as root on Debian installs and starts one.

Prints its address for DOCKER_HOST. `stop` ends the engine again if it was started here, and only then.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import DockerException

from scripts import debian
from scripts.progress import CACHE, SetupError, Step, answering, run

USUAL_SOCKET = "unix:///var/run/docker.sock"
PID_FILE = CACHE / "dockerd.pid"
LOG_FILE = CACHE / "dockerd.log"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Address:
    url: str
    found_in: str


@contextmanager
def running() -> Iterator[str]:
    """The address of an engine; one that had to be started for this is stopped at the end."""
    started_before = PID_FILE.exists()
    try:
        yield ensure()
    finally:
        if not started_before:
            stop()


def ensure() -> str:
    step = Step("Docker Engine")
    tried = list(addresses())
    for address in tried:
        if version := version_at(address.url):
            step.done(f"{version} at {address.url}, from {address.found_in}")
            return address.url
    if not debian.can_install():
        raise SetupError(
            "no Docker Engine answers. Tried:\n"
            + "".join(f"  {address.url} ({address.found_in})\n" for address in tried)
            + "Start one, or point DOCKER_HOST at one. As root on Debian this would install and start one."
        )
    if shutil.which("dockerd") is None:
        debian.install(step, "docker.io", "iptables")
    start(step)
    step.done(f"{version_at(USUAL_SOCKET)} at {USUAL_SOCKET}, started here")
    return USUAL_SOCKET


def addresses() -> Iterator[Address]:
    """Where an engine may be, in the order in which the docker client looks."""
    if url := os.environ.get("DOCKER_HOST"):
        yield Address(url, "DOCKER_HOST")
        return
    if url := current_context():
        yield Address(url, "the current docker context")
    yield Address(USUAL_SOCKET, "the usual place")
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    yield Address(f"unix://{runtime}/docker.sock", "the place of a rootless engine")


def current_context() -> str | None:
    folder = Path(os.environ.get("DOCKER_CONFIG", "~/.docker")).expanduser()
    try:
        config = json.loads((folder / "config.json").read_text())
        name = os.environ.get("DOCKER_CONTEXT") or config.get("currentContext", "default")
        # The docker client names a context's folder after the hash of its name.
        meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
        url: str = json.loads(meta.read_text())["Endpoints"]["docker"]["Host"]
    except (FileNotFoundError, KeyError, ValueError):
        return None
    return url


def version_at(url: str) -> str | None:
    try:
        client = docker.DockerClient(base_url=url, timeout=10)
    except DockerException:
        return None
    try:
        version: str = client.version()["Version"]
    except (DockerException, OSError):
        return None
    finally:
        client.close()
    return version


def start(step: Step) -> None:
    if Path("/run/systemd/system").is_dir():
        step.note("starting it with systemctl")
        run(step, ["systemctl", "start", "docker"])
    else:
        step.note("starting dockerd")
        CACHE.mkdir(exist_ok=True)
        with LOG_FILE.open("w") as log:
            daemon = subprocess.Popen(
                ["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        PID_FILE.write_text(str(daemon.pid))
    deadline = time.monotonic() + START_TIMEOUT_S
    while version_at(USUAL_SOCKET) is None:
        if time.monotonic() > deadline:
            tail = "\n".join(LOG_FILE.read_text().splitlines()[-10:]) if LOG_FILE.exists() else ""
            raise SetupError(f"dockerd did not answer within {START_TIMEOUT_S:.0f} s:\n{tail}")
        time.sleep(0.2)


def stop() -> None:
    """Stops the dockerd that `start` left, if there is one; any other engine is not touched."""
    if not PID_FILE.exists():
        return
    pid = int(PID_FILE.read_text())
    step = Step("Docker Engine")
    if is_dockerd(pid):
        step.note("stopping the one started here")
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while is_dockerd(pid):
            if time.monotonic() > deadline:
                raise SetupError(f"dockerd (process {pid}) does not stop")
            time.sleep(0.1)
    PID_FILE.unlink()
    step.done("stopped")


def is_dockerd(pid: int) -> bool:
    """Whether the process is (still) a running dockerd: pids are used again, and a zombie has no command."""
    try:
        return b"dockerd" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


if __name__ == "__main__":
    with answering():
        if sys.argv[1:] == ["stop"]:
            stop()
        else:
            print(ensure())
