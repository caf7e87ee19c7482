"""Finds or makes all that Interlock stands on, then runs a command with it: python -m scripts.equip COMMAND…

The command gets DOCKER_HOST, INTERLOCK_TEST_IMAGE, and `opa` and `interlock` on its PATH. An engine that was
started for it is stopped after it.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from scripts import debian, engine, image, opa
from scripts.progress import BIN, SetupError, Step, answering


def main(command: list[str]) -> int:
    with answering():
        ensure_git()
        opa.ensure()
        with engine.running() as engine_url:
            parts = {
                "DOCKER_HOST": engine_url,
                "INTERLOCK_TEST_IMAGE": image.ensure(engine_url),
                "PATH": os.pathsep.join((str(Path(sys.executable).parent), str(BIN), os.environ["PATH"])),
            }
            return attended(subprocess.Popen(command, env=os.environ | parts))


def attended(process: subprocess.Popen[bytes]) -> int:
    """Its exit code. Ctrl-C reaches the command too, which may have to clean up: it is waited for, not killed."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: process.terminate())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def ensure_git() -> None:
    if shutil.which("git"):
        return
    step = Step("git")
    if not debian.can_install():
        raise SetupError("git is needed, and none is on PATH")
    debian.install(step, "git")
    step.done("installed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
