"""The runner's folder: one process at a time, and the id by which the control plane knows it again."""

from __future__ import annotations

import fcntl
import os
import secrets
import string
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runner.durable import write_durably
from runner.errors import FolderTaken

_ID_ALPHABET = string.ascii_lowercase + string.digits
_ID_LENGTH = 26


@contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Holds the folder for this process, however that ends. Raises `FolderTaken`."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FolderTaken(
            f"the runner's folder {folder} cannot be used: {error}; set INTERLOCK_RUNNER_DIR"
        ) from error
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = file.read().strip() or "unknown"
            raise FolderTaken(
                f"another runner (process {owner}) works in {folder}: "
                "end it, or give this one a folder of its own with INTERLOCK_RUNNER_DIR"
            ) from error
        # Only for the message above: a runner must be able to start on a full disk, too.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield


def runner_id(folder: Path) -> str:
    """Made at the first start and kept."""
    path = folder / "runner-id"
    if path.exists():
        return path.read_text(encoding="ascii").strip()
    made = "rnr_" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
    write_durably(path, f"{made}\n".encode())
    return made
