"""Where this runner is: which machine, which boot of it, which container engine; and that it is there only once.

A container that is not found proves that it is gone only where it was made; a copied folder proves nothing.
"""

from __future__ import annotations

import hashlib
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.engine import EngineIdentity
from runner.errors import FolderTaken
from runner.journal import Entry

_MACHINE_ID = Path("/etc/machine-id")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Changes with every boot of this machine; empty where the system does not tell."""
    return _line(_BOOT_ID)


def machine_id(engine: EngineIdentity) -> str:
    """Of machine and engine together, lower-case hex; empty where the engine is, or may be, on another machine.

    A digest: the system's own id is not to be shown to others (https://man7.org/linux/man-pages/man5/machine-id.5.html).
    """
    if not engine.id or not engine.is_local:
        return ""
    return hashlib.sha256(f"interlock runner {_line(_MACHINE_ID)} {engine.id}".encode()).hexdigest()


def check_journal(entries: Iterable[Entry], engine: EngineIdentity, folder: Path) -> None:
    """Raises `FolderTaken` when the journal speaks of containers of another engine."""
    for entry in entries:
        if entry.engine_id and engine.id and entry.engine_id != engine.id:
            raise FolderTaken(
                f"{folder} holds run {entry.run_id}, which was begun in container engine {entry.engine_id}; "
                f"here is {engine.id}. Was the folder copied? Give this runner another one with INTERLOCK_RUNNER_DIR. "
                "If that engine and its containers are gone for good, abandon the run, and remove the folder"
            )


@contextmanager
def only_one(runner_id: str) -> Iterator[None]:
    """Holds the runner's id on this machine for this process, however that ends. Raises `FolderTaken`."""
    if not sys.platform.startswith("linux"):
        yield
        return
    # An abstract name: it goes with the process, and no copy of a folder can bring it along.
    with socket.socket(socket.AF_UNIX) as name:
        try:
            name.bind(f"\0interlock-runner-{runner_id}")
        except OSError as error:
            raise FolderTaken(
                f"another process here is runner {runner_id}: was its folder copied? "
                "Remove the copy, or its file runner-id and its folder assignments"
            ) from error
        yield


def _line(path: Path) -> str:
    return path.read_text(encoding="ascii").strip() if path.exists() else ""
