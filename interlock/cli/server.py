"""`interlock server`: becomes the control plane."""

import importlib.util
import os
import sys

from interlock.errors import Misconfigured


def server() -> None:
    """Runs the control plane in this process, until it gets SIGTERM.

    It is set up by the environment: INTERLOCK_LISTEN (HOST:PORT or unix:///PATH), INTERLOCK_DATA_DIR,
    INTERLOCK_DATABASE_URL, INTERLOCK_OPA_URL and those in docs/operating.md. To try things out, use
    `interlock dev` instead.
    """
    become("control_plane", extra="server", needs="sqlalchemy")


def become(module: str, *arguments: str, extra: str, needs: str) -> None:
    """Replaces this process, so that signals and the exit code are the server's own."""
    require(module, extra=extra, needs=needs)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606  # no shell is wanted


def require(module: str, *, extra: str, needs: str) -> None:
    """Raises Misconfigured, with what to install, where the extra is missing."""
    if importlib.util.find_spec(module.partition(".")[0]) is None or importlib.util.find_spec(needs) is None:
        raise Misconfigured(f"the {extra} is not installed; run: pip install 'interlock[{extra}]'")
