"""What a demo may have left behind: processes that work on its folder, containers of its runner."""

from contextlib import suppress
from pathlib import Path

import docker
import psutil
from docker.errors import DockerException, NotFound
from docker.models.containers import Container

RUNNER_LABEL = "dev.interlock.runner"


def processes(folder: Path) -> list[psutil.Process]:
    """Those that have the folder in their command or in Interlock's variables."""
    return [process for process in psutil.process_iter() if _works_on(process, str(folder))]


def _works_on(process: psutil.Process, folder: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        settings = [value for name, value in process.environ().items() if name.startswith("INTERLOCK_")]
        return any(folder in text for text in (*process.cmdline(), *settings))
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return False


def containers(client: docker.DockerClient, runner_id: str) -> list[Container]:
    found: list[Container] = client.containers.list(
        all=True, filters={"label": f"{RUNNER_LABEL}={runner_id}"}, ignore_removed=True
    )
    return found


def names(engine_url: str, folder: Path, runner_id: str) -> list[str]:
    """What there is, for people."""
    left = [f"process {process.pid} ({process.name()})" for process in processes(folder)]
    client = docker.DockerClient(base_url=engine_url)
    try:
        return [*left, *(f"container {container.name}" for container in containers(client, runner_id))]
    finally:
        client.close()


def remove(engine_url: str, folder: Path, runner_id: str) -> None:
    """Ends and removes it all, even what performs: its stack was made for the demo."""
    for process in processes(folder):
        with suppress(psutil.NoSuchProcess):
            process.kill()
            process.wait(timeout=10)
    if not runner_id:
        return
    try:
        client = docker.DockerClient(base_url=engine_url)
    except DockerException:
        return  # no engine, no containers
    try:
        for container in containers(client, runner_id):
            with suppress(NotFound):
                container.remove(force=True, v=True)
    finally:
        client.close()
