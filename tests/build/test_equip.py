"""What set-up starts is waited for, so that it can clean up, and what set-up started for it can be ended after it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ATTEND = "import subprocess, sys; from scripts import equip; sys.exit(equip.attended(subprocess.Popen(sys.argv[1:])))"
COMMAND = 'trap "sleep 1; echo cleaned up; exit 9" INT TERM; echo up; while :; do sleep 0.05; done'


@pytest.mark.parametrize("to_the_command_too", [True, False])
def test_an_interrupted_command_is_given_the_time_to_clean_up(*, to_the_command_too: bool) -> None:
    """Ctrl-C reaches both at a terminal; SIGTERM only who is asked to end, who passes it on."""
    attended = subprocess.Popen(
        [sys.executable, "-c", ATTEND, "sh", "-c", COMMAND],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert attended.stdout is not None
    assert attended.stdout.readline() == "up\n"
    if to_the_command_too:
        os.killpg(attended.pid, signal.SIGINT)
    else:
        attended.terminate()
    rest, _ = attended.communicate(timeout=30)
    assert rest == "cleaned up\n"
    assert attended.returncode == 9
