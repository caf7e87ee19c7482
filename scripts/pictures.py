"""Makes docs/pictures/ of the README's own commands: python -m scripts.equip python -m scripts.pictures.

Each block of shell that an image of docs/pictures/ follows is typed, command by command, into a real terminal
against a real `interlock dev`; rich draws what came out. So the README's commands are tried letter by letter, and
the pictures are what they print. One thing is changed: the temporary home is called /home/you, and the admin key's
secret is cut.
"""

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
PICTURED = re.compile(
    r"```sh\n(?P<commands>(?:(?!```).)*)```\n\n!\[[^]]*\]\(docs/pictures/(?P<name>[a-z-]+)\.svg\)", re.DOTALL
)
COLUMNS, LINES = 110, 50
READY_WITHIN_S = 60.0
READY = "Ctrl-C here ends all"
# The end of the demo, which has pages.
SUMMARY = "\x1b[1mSummary"
TERMINAL = {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}

# What a terminal does besides showing text: the cursor, erased lines, modes. Colours stay.
_CONTROL = re.compile(r"\x1b\[[?0-9;]*[A-Zac-ln-z]|\x1b\][^\x07]*\x07|\x1b[=>]")
_REWRITTEN = re.compile(r"[^\n]*\r(?!\n)")
_WITHDRAWN = re.compile(r"[^\n]*\n(?:\x1b\[\?25h)?\r?\x1b\[1A\x1b\[2K")
_SECRET = re.compile(r"(key_\w{26}\.)[\w-]+")


@dataclass(frozen=True)
class Scene:
    """A picture, and what is typed for it."""

    name: str
    commands: list[str]


def main() -> int:
    PICTURES.mkdir(exist_ok=True)
    demo, started, *scenes = [
        Scene(match["name"], list(commands_in(match["commands"])))
        for match in PICTURED.finditer((ROOT / "README.md").read_text())
    ]
    with tempfile.TemporaryDirectory(prefix="interlock-pictures-") as folder:
        home = Path(folder)
        with system(started.commands[0], home) as shown:
            draw(started.name, prompted(started.commands[0]) + shown, home)
            for scene in scenes:
                typed = (
                    prompted(command) + output(command, home, of_a_new_user(home))
                    for command in scene.commands
                )
                draw(scene.name, "".join(typed), home)
        shown = output(demo.commands[0], ROOT, os.environ | TERMINAL)
        draw(demo.name, f"{prompted(demo.commands[0])}…\n{shown[shown.rindex(SUMMARY) :]}", home)
    return 0


def commands_in(block: str) -> Iterator[str]:
    """A line each, or as many as bash needs: quotations, heredocs, continued lines."""
    command = ""
    for line in block.splitlines(keepends=True):
        command += line
        parsed = subprocess.run(["bash", "-n"], input=command, capture_output=True, text=True, check=False)
        if parsed.returncode == 0 and not parsed.stderr and not command.endswith("\\\n"):
            yield command.rstrip("\n")
            command = ""


def prompted(command: str) -> str:
    first, *rest = command.splitlines()
    return "".join((f"\x1b[1m$ {first}\x1b[0m\n", *(f"\x1b[1m> {line}\x1b[0m\n" for line in rest)))


@contextmanager
def system(command: str, home: Path) -> Iterator[str]:
    """What `interlock dev` prints until it is ready; ended with Ctrl-C."""
    log = home / "dev.txt"
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            env=of_a_new_user(home),
            cwd=home,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + READY_WITHIN_S
        while READY not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"`{command}` did not become ready:\n{log.read_text()}")
            time.sleep(0.1)
        yield log.read_text()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def output(command: str, folder: Path, environ: Mapping[str, str]) -> str:
    """All that the command shows on a terminal."""
    mine, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    with subprocess.Popen(
        ["bash", "-c", command], env=environ, cwd=folder, stdin=its, stdout=its, stderr=its
    ):
        os.close(its)
        shown = b""
        with suppress(OSError):  # how a terminal says on Linux that nobody has it any more
            while piece := os.read(mine, 1 << 16):
                shown += piece
    os.close(mine)
    return shown.decode(errors="replace")


def of_a_new_user(home: Path) -> Mapping[str, str]:
    """The environment of one who has nothing of Interlock yet."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("INTERLOCK_", "XDG_"))}
    return kept | TERMINAL | {"HOME": str(home)}


def draw(name: str, shown: str, home: Path) -> None:
    text = _CONTROL.sub("", _WITHDRAWN.sub("", shown.replace("\r\n", "\n")))
    text = _SECRET.sub(r"\1…", _REWRITTEN.sub("", text)).replace(str(home), "/home/you")
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="standard"
    )
    console.print(Text.from_ansi(text.rstrip("\n")))
    console.save_svg(str(PICTURES / f"{name}.svg"), title="", unique_id=name)
    print(f"  {name}.svg: {(PICTURES / f'{name}.svg').stat().st_size // 1024} KiB", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
