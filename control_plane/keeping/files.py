"""Files on their way into a backup, out of it, or under examination; several at once, as disks like it."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from control_plane.keeping.manifest import StoredPart
from control_plane.storage import finished_output

T = TypeVar("T")
U = TypeVar("U")

BLOCK_BYTES: Final = 1 << 20
_AT_ONCE: Final = 4
_BATCH: Final = 256


def each(work: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """`work` of every item, in order, some at once; never more than a batch of them in memory."""
    iterator = iter(items)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="keeping") as pool:
        while batch := list(itertools.islice(iterator, _BATCH)):
            yield from pool.map(work, batch)


def copy(file: int, target: Path, size_bytes: int) -> None:
    """The first bytes of an open file, on the disk when it returns."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as copied:
        position = 0
        while position < size_bytes:
            block = os.pread(file, min(BLOCK_BYTES, size_bytes - position), position)
            if not block:
                break
            view = memoryview(block)
            while view:
                view = view[copied.write(view) :]
            position += len(block)
        os.fsync(copied.fileno())


def described(file: Path) -> StoredPart:
    digest, size_bytes = hashlib.sha256(), 0
    with file.open("rb") as opened:
        while block := opened.read(BLOCK_BYTES):
            digest.update(block)
            size_bytes += len(block)
    return StoredPart(file.name, size_bytes, digest.hexdigest())


def sync_tree(folder: Path) -> None:
    """Every name in it is on the disk, and the content of the files directly in it."""
    for file in folder.iterdir():
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    for each_folder, _, _ in os.walk(folder):
        finished_output.sync_folder(Path(each_folder))
