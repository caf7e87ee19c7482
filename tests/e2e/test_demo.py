"""`make demo` after its set-up: every step comes out as said, and nothing is left, whatever ends it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import psutil
import pytest
from docker.models.containers import Container

ROOT = Path(__file__).resolve().parents[2]
PLAYS_WITHIN_S = 200
CLEANS_UP_WITHIN_S = 60


@pytest.fixture
def demo_environ(tmp_path: Path, engine_url: str, test_image: str) -> dict[str, str]:
    """As `scripts.equip` gives it, with a temporary folder by which all that is the demo's can be told."""
    return {
        **os.environ,
        "DOCKER_HOST": engine_url,
        "INTERLOCK_TEST_IMAGE": test_image,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TMPDIR": str(tmp_path),
    }


@contextlib.contextmanager
def started(environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    demo = subprocess.Popen(
        [sys.executable, "-m", "scripts.demo"],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield demo
    finally:
        demo.terminate()
        demo.communicate(timeout=CLEANS_UP_WITHIN_S)


def left_behind(folder: Path, docker_client: docker.DockerClient) -> list[object]:
    """The folder's files, processes with it in their environment, containers that mount from it."""
    containers = docker_client.containers.list(
        all=True, filters={"label": "dev.interlock.runner"}, ignore_removed=True
    )
    return [
        *folder.iterdir(),
        *(process for process in psutil.process_iter() if _has_for_temporary(process, folder)),
        *(container for container in containers if _mounts_from(container, folder)),
    ]


def _has_for_temporary(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get("TMPDIR") == str(folder)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _mounts_from(container: Container, folder: Path) -> bool:
    return any(mount.get("Source", "").startswith(str(folder)) for mount in container.attrs["Mounts"])


@pytest.mark.slow
def test_every_step_of_the_demo_comes_out_as_said(
    tmp_path: Path, demo_environ: dict[str, str], docker_client: docker.DockerClient
) -> None:
    with started(demo_environ) as demo:
        shown, _ = demo.communicate(timeout=PLAYS_WITHIN_S)
    steps, summary = shown.split("== Summary")
    marks = re.findall(r"^ +\d+ +(ok|FAILED) ", summary, re.MULTILINE)
    assert demo.returncode == 0, shown
    assert set(marks) == {"ok"}
    assert len(marks) == steps.count("    ✓ ") == int(re.findall(r"^\[\d+/(\d+)\]", steps, re.MULTILINE)[-1])
    assert "\x1b" not in shown
    assert left_behind(tmp_path, docker_client) == []


@pytest.mark.slow
def test_an_interrupt_while_a_task_performs_leaves_nothing_running(
    tmp_path: Path, demo_environ: dict[str, str], docker_client: docker.DockerClient
) -> None:
    with started(demo_environ) as demo:
        assert demo.stdout is not None
        assert any("✓ it performs" in line for line in demo.stdout)
        assert left_behind(tmp_path, docker_client) != []
        os.kill(demo.pid, signal.SIGINT)
        rest, _ = demo.communicate(timeout=CLEANS_UP_WITHIN_S)
    assert demo.returncode == 130, rest
    assert left_behind(tmp_path, docker_client) == []
