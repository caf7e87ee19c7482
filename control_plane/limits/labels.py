"""Labels of stacks that have a limit of active runs."""

from __future__ import annotations

import sqlalchemy as sa

from control_plane.limits import store


def limited_of_stack(connection: sa.Connection, stack_id: str) -> list[str]:
    """Those of the stack's labels that have a limit now."""
    limited = store.limited_labels(connection)
    return sorted(set(limited) & set(store.labels_of_stack(connection, stack_id))) if limited else []
