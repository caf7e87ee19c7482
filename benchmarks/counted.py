"""The control plane as it is, with every statement counted that it sends to its database: the number stands in the file
that INTERLOCK_BENCH_STATEMENTS names, as eight bytes."""

from __future__ import annotations

import itertools
import mmap
import os
import sys
from pathlib import Path

import sqlalchemy as sa

from control_plane.__main__ import main

VARIABLE = "INTERLOCK_BENCH_STATEMENTS"


def count_into(path: Path) -> None:
    path.write_bytes(bytes(8))
    with path.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), 8)
    numbers = itertools.count(1)

    def count(*_: object) -> None:
        shared[:] = next(numbers).to_bytes(8, "little")

    sa.event.listen(sa.Engine, "before_cursor_execute", count)


def counted(path: Path) -> int:
    return int.from_bytes(path.read_bytes(), "little")


if __name__ == "__main__":
    count_into(Path(os.environ[VARIABLE]))
    sys.exit(main())
