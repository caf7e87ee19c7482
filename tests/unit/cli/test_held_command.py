"""Ctrl-C on a terminal reaches a held command by itself; what is sent to `interlock stack hold` alone is passed on."""

import os
import pty
import subprocess
import sys

TAKE_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
ASK = "from interlock.cli.held_command import _is_in_foreground as ask; print(ask())"


def test_in_the_foreground_of_a_terminal_the_command_hears_the_terminal_itself() -> None:
    ours, theirs = pty.openpty()
    asked = subprocess.Popen(
        [sys.executable, "-c", f"{TAKE_TERMINAL}; {ASK}"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(theirs)
    assert asked.communicate()[0] == b"True\n"
    os.close(ours)


def test_without_a_terminal_it_does_not() -> None:
    asked = subprocess.run(
        [sys.executable, "-c", ASK],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,
        check=True,
    )
    assert asked.stdout == b"False\n"
