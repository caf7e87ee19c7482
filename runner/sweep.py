"""What an earlier process of this runner left behind, removed at start. A run that may be alive is never touched."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import structlog

from runner import labels
from runner.belonging import belongs_to
from runner.engine import ContainerState, Engine, FoundContainer
from runner.journal import Entry
from runner.sources.git import FOLDER_PREFIX

log = structlog.get_logger(__name__)


async def sweep_containers(
    engine: Engine, *, runner_id: str, held: Collection[Entry]
) -> list[FoundContainer]:
    """Removes this runner's containers that nobody needs; gives those that stay.

    `held`: the journal's entries, whose containers stay, running or ended. Of the others, those that have
    ended or were never started go, and warm ones that wait for a run. One that runs stays even if no journal knows
    it: a journal can be lost, and the container may be performing.
    """
    staying = []
    for container in await engine.find({labels.RUNNER: runner_id}):
        if any(belongs_to(container, entry) for entry in held):
            staying.append(container)
        elif container.state is not ContainerState.RUNNING or labels.is_waiting_name(container.name):
            log.info("sweep.container_removed", container=container.name)
            await engine.remove(container.id)
        else:
            log.warning(
                "sweep.unknown_run", container=container.name, hint="remove it by hand when it is over"
            )
            staying.append(container)
    return staying


def sweep_folder(folder: Path) -> None:
    """Removes repositories that were just being fetched. Only for the process that holds the folder."""
    for left in folder.glob(f"{FOLDER_PREFIX}*"):
        log.info("sweep.folder_removed", folder=left.name)
        shutil.rmtree(left)
