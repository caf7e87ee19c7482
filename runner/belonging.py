"""Which container is a run's: told by what the engine and the journal know, so that a later process finds it again."""

from __future__ import annotations

from runner import labels
from runner.engine import FoundContainer
from runner.journal import Entry


def belongs_to(container: FoundContainer, entry: Entry) -> bool:
    """A container that was made for a run has its labels, and those of a warm one cannot change any more: it is written
    into the run's journal and gets the run's name, in any order, and both before it gets a script."""
    if labels.ASSIGNMENT in container.labels:
        return container.labels[labels.ASSIGNMENT] == entry.assignment_id
    return container.id == entry.container_id or container.name == labels.name_of_run(
        entry.run_id, entry.fencing_token
    )
