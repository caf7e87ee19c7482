"""Segments: run output in an object store, one object and one row each. The row is what makes it a part of the output;
it is there for the run's current assignment or not at all, and is never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from control_plane.storage.outputs import StoredOutput, Writer, WriterFenced
from control_plane.storage.tables import IS_ACTIVE, output_segments, runs
from interlock.v1 import run_pb2

_PAGE = 1000

# The right to add: the run's assignment and fencing token, while it is active. An abandoned run keeps both, and what
# its runner adds is behind the run's own output. Held until the row is there, so that no end of the run overtakes it.
_HOLD = (
    sa.select(runs.c.id)
    .where(
        runs.c.id == sa.bindparam("of_run"),
        runs.c.assignment_id == sa.bindparam("assignment_id"),
        runs.c.fence == sa.bindparam("of_fence"),
        sa.or_(
            IS_ACTIVE,
            runs.c.failure == sa.literal_column(str(int(run_pb2.RUN_FAILURE_ABANDONED))),
        ),
    )
    .with_for_update()
)
_INSERT = sa.insert(output_segments)
_IS_PACKED = sa.select(runs.c.output_kept_as).where(runs.c.id == sa.bindparam("of_run"))
_LEFT = (
    sa.select(output_segments.c.run_id)
    .distinct()
    .join(runs, runs.c.id == output_segments.c.run_id)
    .where(runs.c.output_kept_as == sa.literal_column("'moved'"))
)
_REMOVE = sa.delete(output_segments).where(
    output_segments.c.run_id == sa.bindparam("of_run"),
    sa.exists().where(
        runs.c.id == output_segments.c.run_id, runs.c.output_kept_as == sa.literal_column("'moved'")
    ),
)
_LAST = (
    sa.select(output_segments)
    .where(output_segments.c.run_id == sa.bindparam("of_run"))
    .order_by(output_segments.c.offset_bytes.desc())
    .limit(1)
)
_BEHIND = (
    sa.select(output_segments)
    .where(
        output_segments.c.run_id == sa.bindparam("of_run"),
        output_segments.c.offset_bytes >= sa.bindparam("offset"),
    )
    .order_by(output_segments.c.offset_bytes)
    .limit(_PAGE)
)


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes of a run's output, from `offset` on."""

    run_id: str
    offset: int
    size_bytes: int
    # The slot's fencing token with which it was added.
    fence: int
    # Of its own bytes.
    sha256: str
    # Of all the run's output up to its end.
    output_sha256: str

    @property
    def end(self) -> int:
        return self.offset + self.size_bytes

    @property
    def key(self) -> str:
        """Where its object is. Named by what is in it, too: whoever writes other bytes writes another object."""
        return f"output/{self.run_id[-2:]}/{self.run_id}/{self.fence}/{self.offset:016d}-{self.sha256}"


def add(connection: sa.Connection, segment: Segment, writer: Writer, *, begin: int) -> bool:
    """Adds a segment whose object is durable, at the end of what there is; `begin` is the end where there is none.
    False where the end is another one meanwhile: a control plane that had the run before has added something.

    Raises:
        WriterFenced: the run is over, or has another assignment.
    """
    right = {"of_run": segment.run_id, "assignment_id": writer.assignment_id, "of_fence": writer.fence}
    if connection.execute(_HOLD, right).one_or_none() is None:
        raise WriterFenced(f"{segment.run_id} is over, or not {writer.assignment_id}'s any more")
    found = last(connection, segment.run_id)
    if segment.offset != (begin if found is None else found.end):
        return False
    insert(connection, segment)
    return True


def insert(connection: sa.Connection, segment: Segment) -> None:
    """Without asking who may: nobody else adds to this output now."""
    connection.execute(
        _INSERT,
        {
            "run_id": segment.run_id,
            "offset_bytes": segment.offset,
            "size_bytes": segment.size_bytes,
            "fence": segment.fence,
            "sha256": segment.sha256,
            "output_sha256": segment.output_sha256,
        },
    )


def is_packed(connection: sa.Connection, run_id: str) -> bool:
    """One object has all its output, and took the place of what was written."""
    return connection.execute(_IS_PACKED, {"of_run": run_id}).scalar_one_or_none() == "moved"


def left(connection: sa.Connection) -> list[str]:
    """Runs whose output is packed, and which have segments still. Reads the index of all segments."""
    return list(connection.execute(_LEFT).scalars())


def remove(connection: sa.Connection, run_id: str) -> None:
    """Of a run whose output is packed; their objects are gone."""
    connection.execute(_REMOVE, {"of_run": run_id})


def last(connection: sa.Connection, run_id: str) -> Segment | None:
    row = connection.execute(_LAST, {"of_run": run_id}).one_or_none()
    return None if row is None else _segment(row)


def behind(connection: sa.Connection, run_id: str, offset: int) -> Sequence[Segment]:
    """Those that begin at `offset` or behind it, in order; at most a page of them."""
    return [_segment(row) for row in connection.execute(_BEHIND, {"of_run": run_id, "offset": offset})]


def stored(segment: Segment) -> StoredOutput:
    """All output up to the end of this segment."""
    return StoredOutput(segment.end, segment.output_sha256)


def _segment(row: sa.Row[tuple[object, ...]]) -> Segment:
    return Segment(row.run_id, row.offset_bytes, row.size_bytes, row.fence, row.sha256, row.output_sha256)
