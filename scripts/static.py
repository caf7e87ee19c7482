"""Tells whether a Linux program runs without a C library, as it must in an image made FROM scratch."""

import struct
from pathlib import Path

PT_INTERP = 3


def is_static(program: Path) -> bool:
    """Whether it is a 64-bit ELF file that names no interpreter (the dynamic loader)."""
    with program.open("rb") as file:
        header = file.read(64)
        if header[:6] != b"\x7fELF\x02\x01":
            return False
        (table,) = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        file.seek(table)
        entries = file.read(size * count)
    return all(struct.unpack_from("<I", entries, size * i)[0] != PT_INTERP for i in range(count))
