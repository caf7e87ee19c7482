"""What keeping asks of the database. The only place of the package with SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from control_plane.audit import events
from control_plane.identity.principal import SYSTEM
from control_plane.storage.database import Unit
from control_plane.storage.tables import TO_COMPRESS, late_evidence, runs
from interlock.v1 import run_pb2

_PAGE: Final = 100
_IS_ABANDONED: Final = runs.c.failure == sa.literal_column(str(int(run_pb2.RUN_FAILURE_ABANDONED)))

# Of an abandoned run more may come, until its runner has reported the end: nothing takes the place of that file.
_TO_COMPRESS = (
    sa.select(
        runs.c.id,
        runs.c.stack_id,
        runs.c.finished_at,
        sa.case(
            (_IS_ABANDONED, late_evidence.c.whole_output_size_bytes), else_=runs.c.output_size_bytes
        ).label("size_bytes"),
        sa.case((_IS_ABANDONED, late_evidence.c.whole_output_sha256), else_=runs.c.output_sha256).label(
            "sha256"
        ),
    )
    .select_from(runs.outerjoin(late_evidence, late_evidence.c.run_id == runs.c.id))
    .where(
        sa.text(TO_COMPRESS),
        runs.c.finished_at <= sa.bindparam("before"),
        sa.tuple_(runs.c.finished_at, runs.c.id)
        > sa.tuple_(sa.bindparam("after_time"), sa.bindparam("after_id")),
        sa.or_(~_IS_ABANDONED, late_evidence.c.reported_at.is_not(None)),
    )
    .order_by(runs.c.finished_at, runs.c.id)
    .limit(_PAGE)
)
# Once, whoever of several replicas comes first.
_MARK_COMPRESSED = (
    sa.update(runs)
    .where(runs.c.id == sa.bindparam("of_run"), runs.c.output_kept_as == sa.literal_column("''"))
    .values(output_kept_as="compressed")
)


def to_compress(before_us: int, after: tuple[int, str]) -> Unit[Sequence[Any]]:
    """The next runs that ended before then, oldest first, from the one after (finished_at, id) on."""
    values = {"before": before_us, "after_time": after[0], "after_id": after[1]}
    return lambda connection: connection.execute(_TO_COMPRESS, values).all()


def mark_compressed(run: sa.Row[Any], compressed_bytes: int) -> Unit[None]:
    def unit(connection: sa.Connection) -> None:
        if connection.execute(_MARK_COMPRESSED, {"of_run": run.id}).rowcount:
            events.record(
                connection,
                SYSTEM,
                "run.output_compressed",
                "run",
                run.id,
                stack_id=run.stack_id,
                details={"size_bytes": run.size_bytes, "compressed_bytes": compressed_bytes},
            )

    return unit
