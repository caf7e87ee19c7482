"""`make demo-ha` after its set-up, in small: a replica is killed, every byte comes, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.demo import leftovers

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 120


@pytest.fixture
def environ(tmp_path: Path, engine_url: str, test_image: str) -> dict[str, str]:
    return {
        **os.environ,
        "DOCKER_HOST": engine_url,
        "INTERLOCK_TEST_IMAGE": test_image,
        # Not TMPDIR: the socket of PostgreSQL needs a short path.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def play(environ: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.demo_ha", *arguments],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_a_replica_is_killed_and_every_watcher_gets_every_byte(environ: dict[str, str]) -> None:
    demo = play(environ, "--tasks", "1", "--seconds", "3", "--rounds", "1")
    output, _ = demo.communicate(timeout=WITHIN_S)
    assert demo.returncode == 0, output
    assert "output goes to an object store" in output
    assert "replica 0 is killed" in output
    assert "3 of 3 watchers got each of them once and in order" in output
    assert "nothing was lost, nothing ran twice" in output


def test_interrupted_it_leaves_nothing(environ: dict[str, str]) -> None:
    demo = play(environ, "--tasks", "1", "--seconds", "60", "--output", "folder")
    assert demo.stdout is not None
    folder = ""
    for line in demo.stdout:
        folder = folder or line.partition("logs are in ")[2].strip()
        if "all tasks perform" in line:
            break
    demo.send_signal(signal.SIGTERM)
    output, _ = demo.communicate(timeout=WITHIN_S)
    assert "nothing is left running" in output
    assert leftovers.processes(Path(folder)) == []
    assert not Path(folder).exists()
