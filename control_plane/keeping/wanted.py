"""What must be stored of a run's output, as its record says, and whether it is. Pure, but for the reading of blocks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from control_plane.storage.seekable import Damaged


@dataclass(frozen=True, slots=True)
class Point:
    """So many bytes from the start have this SHA-256."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """The output of one run. Of one that is not over there may be more than its record speaks of."""

    run_id: str
    points: tuple[Point, ...]
    is_all: bool

    def to_line(self) -> str:
        """For a list on the disk."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def of_line(cls, line: str) -> Wanted:
        content = json.loads(line)
        points = tuple(Point(**point) for point in content["points"])
        return cls(content["run_id"], points, content["is_all"])


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found. `problem` is empty where it is as the record says."""

    size_bytes: int
    sha256: str
    problem: str = ""


def missing(wanted: Wanted) -> Examined:
    """Nothing is stored."""
    size_bytes = max((point.size_bytes for point in wanted.points), default=0)
    problem = f"nothing is stored, {size_bytes} bytes are on record" if size_bytes else ""
    return Examined(0, hashlib.sha256().hexdigest(), problem)


def examine(wanted: Wanted, blocks: Iterable[bytes]) -> Examined:
    """Reads all blocks. Those that cannot be decompressed end the output, and are a problem."""
    digest, size_bytes, damage = hashlib.sha256(), 0, ""
    points = sorted(
        (point for point in wanted.points if point.size_bytes), key=lambda point: point.size_bytes
    )
    problem = ""
    try:
        for block in blocks:
            rest = memoryview(block)
            while points and size_bytes + len(rest) >= points[0].size_bytes:
                point = points.pop(0)
                digest.update(part := rest[: point.size_bytes - size_bytes])
                size_bytes, rest = point.size_bytes, rest[len(part) :]
                problem = problem or _differs(point, digest.hexdigest())
            digest.update(rest)
            size_bytes += len(rest)
    except Damaged as error:
        damage = str(error)
    found = Examined(size_bytes, digest.hexdigest())
    return Examined(found.size_bytes, found.sha256, damage or problem or _ends(wanted, found, points))


def _differs(point: Point, found: str) -> str:
    if found == point.sha256:
        return ""
    return f"its first {point.size_bytes} bytes have SHA-256 {found}, on record is {point.sha256}"


def _ends(wanted: Wanted, found: Examined, points: list[Point]) -> str:
    if points:
        return f"{found.size_bytes} bytes are stored, {points[-1].size_bytes} are on record"
    recorded = max((point.size_bytes for point in wanted.points), default=0)
    if wanted.is_all and found.size_bytes > recorded:
        return f"{found.size_bytes} bytes are stored, only {recorded} are on record"
    return ""
