"""Plays the demo in a folder of its own, and cleans up whatever happens. `make demo` starts it."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from scripts.demo import leftovers, screen, story
from scripts.demo.player import Player

EXIT_INTERRUPTED = 130
LOG_LINES = 20
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(environ: Mapping[str, str]) -> int:
    engine_url, image = environ.get("DOCKER_HOST"), environ.get("INTERLOCK_TEST_IMAGE")
    if not engine_url or not image:
        sys.exit("set-up: start it with `make demo`, which finds what it needs")
    for number in ENDINGS:
        signal.signal(number, _interrupt)
    try:
        with screen.opened() as shown, _folder() as folder:
            return _play(shown, folder, engine_url, image, environ)
    except KeyboardInterrupt:
        print("\ninterrupted; nothing is left running", file=sys.stderr)
        return EXIT_INTERRUPTED


def _play(shown: screen.Screen, folder: Path, engine_url: str, image: str, environ: Mapping[str, str]) -> int:
    data, state = folder / "data", folder / "state"
    state.mkdir()
    state.chmod(
        0o777
    )  # for the containers' user, whoever that is on the engine's machine; `folder` is ours alone
    player = Player(shown, _clean(environ, folder))

    def left() -> list[str]:
        return leftovers.names(engine_url, folder, player.notes.get("runner", ""))

    try:
        outcomes = player.play(story.chapters(data, state, image, left))
    finally:
        with _uninterrupted():
            player.close()
            leftovers.remove(engine_url, folder, player.notes.get("runner", ""))
    shown.summary(outcomes)
    if all(outcome.is_as_expected for outcome in outcomes):
        return 0
    for log in sorted(data.glob("*.log")):
        tail = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        shown.say("\n".join(["", f"The end of {log.name}:", *(f"  {line}" for line in tail)]))
    return 1


def _clean(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Without the reader's own Interlock, whose profiles are not ours to change."""
    kept = {name: value for name, value in environ.items() if not name.startswith("INTERLOCK_")}
    return kept | {"INTERLOCK_PROFILES_FILE": str(folder / "profiles.toml"), "PYTHONUNBUFFERED": "1"}


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="interlock-demo-")).resolve()
    try:
        yield folder
    finally:
        with _uninterrupted():
            shutil.rmtree(folder)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Cleaning up is done to its end; it takes seconds."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(os.environ))
