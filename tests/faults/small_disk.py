"""A disk of a few MiB that a test can really fill up, and empty again."""

from __future__ import annotations

import contextlib
import errno
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_BLOCK = b"x" * 4096


class SmallDisk:
    """`fill` leaves room for no byte and for no new file or folder; `empty` takes back what `fill` put there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        self._ballast.mkdir(exist_ok=True)
        _until_full(self._write_bytes)
        _until_full(self._make_files)

    def empty(self) -> None:
        for file in self._ballast.iterdir():
            file.unlink()

    def _write_bytes(self) -> None:
        with (self._ballast / "bytes").open("ab", buffering=0) as file:
            while True:
                file.write(_BLOCK)

    def _make_files(self) -> None:
        number = sum(1 for _ in self._ballast.iterdir())
        while True:
            number += 1
            (self._ballast / f"file-{number}").touch(exist_ok=False)


@contextlib.contextmanager
def mounted(folder: Path, *, mib: int = 16, files: int = 400) -> Iterator[SmallDisk]:
    """Mounts a disk of its own on a folder. Skips the test where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    options = f"size={mib}m,nr_inodes={files},mode=0700"
    command = ["mount", "-t", "tmpfs", "-o", options, "interlock-test", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: what a failed test left running may still have files open there.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _until_full(write: Callable[[], None]) -> None:
    try:
        write()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
