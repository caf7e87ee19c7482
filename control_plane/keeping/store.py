"""What keeping asks of the database. The only place of the package with SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from control_plane import clock
from control_plane.audit import events
from control_plane.identity.principal import SYSTEM
from control_plane.keeping.wanted import Point, Wanted
from control_plane.runs.states import RunState
from control_plane.storage import segments
from control_plane.storage.database import Unit
from control_plane.storage.segments import Segment
from control_plane.storage.tables import (
    TO_COMPRESS,
    installation,
    late_evidence,
    output_segments,
    plans,
    replicas,
    runner_connections,
    runs,
    stacks,
)
from interlock.v1 import run_pb2

_PAGE: Final = 100
_OUTPUTS_PAGE: Final = 1000
_OVER: Final = [state.value for state in sorted(RunState) if state.is_final]
_IS_ABANDONED: Final = runs.c.failure == sa.literal_column(str(int(run_pb2.RUN_FAILURE_ABANDONED)))

# What the whole output is. Of an abandoned run more may come, until its runner has reported the end: nothing takes the
# place of that.
_SIZE = sa.case((_IS_ABANDONED, late_evidence.c.whole_output_size_bytes), else_=runs.c.output_size_bytes)
_SHA256 = sa.case((_IS_ABANDONED, late_evidence.c.whole_output_sha256), else_=runs.c.output_sha256)
_OLD_ENOUGH = (
    sa.select(
        runs.c.id,
        runs.c.stack_id,
        runs.c.finished_at,
        runs.c.output_kept_as,
        _SIZE.label("size_bytes"),
        _SHA256.label("sha256"),
    )
    .select_from(runs.outerjoin(late_evidence, late_evidence.c.run_id == runs.c.id))
    .where(
        runs.c.finished_at <= sa.bindparam("before"),
        sa.or_(~_IS_ABANDONED, late_evidence.c.reported_at.is_not(None)),
    )
)
_TO_COMPRESS = (
    _OLD_ENOUGH.where(
        sa.text(TO_COMPRESS),
        sa.tuple_(runs.c.finished_at, runs.c.id)
        > sa.tuple_(sa.bindparam("after_time"), sa.bindparam("after_id")),
    )
    .order_by(runs.c.finished_at, runs.c.id)
    .limit(_PAGE)
)
_IF_OLD_ENOUGH = _OLD_ENOUGH.where(runs.c.id == sa.bindparam("of_run"))
# Once, whoever of several replicas comes first.
_MARK = (
    sa.update(runs)
    .where(runs.c.id == sa.bindparam("of_run"), runs.c.output_kept_as != sa.bindparam("kept_as"))
    .values(output_kept_as=sa.bindparam("kept_as"))
)
_OUTPUTS = (
    sa.select(
        runs.c.id,
        runs.c.state,
        runs.c.failure,
        runs.c.output_size_bytes,
        runs.c.output_sha256,
        late_evidence.c.reported_at,
        late_evidence.c.whole_output_size_bytes,
        late_evidence.c.whole_output_sha256,
    )
    .select_from(runs.outerjoin(late_evidence, late_evidence.c.run_id == runs.c.id))
    .where(runs.c.id > sa.bindparam("after_id"))
    .order_by(runs.c.id)
    .limit(_OUTPUTS_PAGE)
)
_ARCHIVES = sa.union(
    sa.select(stacks.c.archive_sha256).where(stacks.c.archive_sha256 != sa.literal_column("''")),
    sa.select(runs.c.source_sha256).where(runs.c.source_sha256 != sa.literal_column("''")),
)
_KEPT_PLANS = (
    sa.select(plans.c.sealed_sha256)
    .join(runs, runs.c.id == plans.c.run_id)
    .where(plans.c.sealed_sha256 != sa.literal_column("''"), runs.c.state.not_in(_OVER))
)
_KEY = sa.select(installation.c.key_fingerprint)
_REVISION = sa.text("SELECT version_num FROM alembic_version")
_NO_REPLICAS = sa.delete(replicas)
_NO_SEGMENTS = sa.delete(output_segments)
# As it was written: it may be compressed, or packed, anew.
_AS_WRITTEN = (
    sa.update(runs)
    .where(runs.c.output_kept_as.in_(sa.bindparam("kept_as", expanding=True)))
    .values(output_kept_as="")
)
_NOBODY_CONNECTED = (
    sa.update(runner_connections)
    .where(runner_connections.c.replica_id.is_not(None))
    .values(replica_id=None, lost_at=sa.bindparam("now"))
)


def to_compress(before_us: int, after: tuple[int, str]) -> Unit[Sequence[Any]]:
    """The next runs that ended before then, oldest first, from the one after (finished_at, id) on."""
    values = {"before": before_us, "after_time": after[0], "after_id": after[1]}
    return lambda connection: connection.execute(_TO_COMPRESS, values).all()


def if_old_enough(run_id: str, before_us: int) -> Unit[Any]:
    """The run, as of `to_compress` and whatever its output is kept as; None where it is not over for so long."""
    values = {"of_run": run_id, "before": before_us}
    return lambda connection: connection.execute(_IF_OLD_ENOUGH, values).one_or_none()


def mark(run: Any, kept_as: str, compressed_bytes: int) -> Unit[None]:
    """`kept_as`: "compressed" or "moved"."""

    def unit(connection: sa.Connection) -> None:
        if connection.execute(_MARK, {"of_run": run.id, "kept_as": kept_as}).rowcount:
            events.record(
                connection,
                SYSTEM,
                f"run.output_{kept_as}",
                "run",
                run.id,
                stack_id=run.stack_id,
                details={"size_bytes": run.size_bytes, "compressed_bytes": compressed_bytes},
            )

    return unit


def outputs(connection: sa.Connection, after_id: str) -> list[Wanted]:
    """What must be stored of the next runs, by id, from the one after this on."""
    return [_wanted(row) for row in connection.execute(_OUTPUTS, {"after_id": after_id})]


def archives(connection: sa.Connection) -> set[str]:
    """The digests of all archives that somebody may ask for."""
    return set(connection.execute(_ARCHIVES).scalars()) | kept_plans(connection)


def kept_plans(connection: sa.Connection) -> set[str]:
    """The digests of what plans left for their apply. They go when the run is over."""
    return set(connection.execute(_KEPT_PLANS).scalars())


def key_fingerprint(connection: sa.Connection) -> str:
    """Of the master key; empty before the first start."""
    return connection.execute(_KEY).scalar_one_or_none() or ""


def revision(connection: sa.Connection) -> str | None:
    """Which shape the database has; None where it is none of Interlock's."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(_REVISION).scalar_one_or_none()


def arrived(
    connection: sa.Connection,
    details: Mapping[str, object],
    *,
    in_objects: bool,
    uploaded: Iterable[Segment],
) -> None:
    """After a restore: who was connected is not here, output is where it was put now, and the log says what happened."""
    names = sa.inspect(connection).get_table_names()
    if runner_connections.name in names:
        connection.execute(_NOBODY_CONNECTED, {"now": clock.now_us()})
    if replicas.name in names:
        connection.execute(_NO_REPLICAS)
    if output_segments.name in names:
        connection.execute(_NO_SEGMENTS)
        gone = ["moved", "compressed"] if in_objects else ["moved"]
        connection.execute(_AS_WRITTEN, {"kept_as": gone})
        for segment in uploaded:
            segments.insert(connection, segment)
    events.record(connection, SYSTEM, "installation.restored", "installation", "", details=details)


def _wanted(row: Any) -> Wanted:
    points = [Point(row.output_size_bytes, row.output_sha256)]
    is_all = RunState(row.state).is_final
    if row.failure == run_pb2.RUN_FAILURE_ABANDONED:
        # Its runner may still write, until it has reported the end.
        is_all = row.reported_at is not None
        if is_all:
            points.append(Point(row.whole_output_size_bytes, row.whole_output_sha256))
    return Wanted(row.id, tuple(point for point in points if point.size_bytes), is_all)
