"""Many stacks with queued runs: one is made as callers make it, the others are copies of its rows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from control_plane import ids
from control_plane.storage.tables import lanes, run_changes, runs, slots, stacks

TEMPLATE: Final = "scale-0"
_BATCH: Final = 1000


def fill(engine: sa.Engine, stack_count: int) -> None:
    """Brings `TEMPLATE`, with its queue, to so many stacks."""
    numbers = range(1, stack_count)
    with engine.begin() as connection:
        for first in range(0, len(numbers), _BATCH):
            _copy(connection, [f"scale-{number}" for number in numbers[first : first + _BATCH]])
    if engine.dialect.name == "postgresql":
        # As autovacuum has done it where rows came one by one.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


def _copy(connection: sa.Connection, stack_ids: Sequence[str]) -> None:
    """The template's stack, slot, lane, runs and history once more for each of these ids."""
    for table, column in ((stacks, stacks.c.id), (slots, slots.c.stack_id), (lanes, lanes.c.stack_id)):
        [row] = _rows(connection, table, column, TEMPLATE)
        connection.execute(sa.insert(table), [{**row, column.name: stack_id} for stack_id in stack_ids])
    queue = _rows(connection, runs, runs.c.stack_id, TEMPLATE)
    changes = {row["id"]: _rows(connection, run_changes, run_changes.c.run_id, row["id"]) for row in queue}
    for change in itertools.chain.from_iterable(changes.values()):
        del change["id"]  # the database counts
    copies, history = [], []
    for stack_id in stack_ids:
        for row in queue:
            copy = {**row, "id": ids.new_id("run"), "stack_id": stack_id}
            copies.append(copy)
            history += [{**change, "run_id": copy["id"]} for change in changes[row["id"]]]
    connection.execute(sa.insert(runs), copies)
    connection.execute(sa.insert(run_changes), history)


def _rows(
    connection: sa.Connection, table: sa.Table, column: sa.Column[Any], value: str
) -> list[dict[str, Any]]:
    found = connection.execute(sa.select(table).where(column == value)).mappings()
    return [dict(row) for row in found]
