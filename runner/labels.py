"""The labels and names of everything that a runner makes in its engine, by which a later process finds it again."""

from __future__ import annotations

RUNNER = "dev.interlock.runner"
"""The runner's id: whose it is. A runner touches nothing that has another's."""
RUN = "dev.interlock.run"
ASSIGNMENT = "dev.interlock.assignment"
FENCE = "dev.interlock.fence"
WARM = "dev.interlock.warm"
"""On a container that was started for no run in particular. Its name tells whether it still waits for one."""

_WARM_NAME = "interlock-warm-"


def of_run(*, runner_id: str, run_id: str, assignment_id: str, fence: int) -> dict[str, str]:
    return {RUNNER: runner_id, RUN: run_id, ASSIGNMENT: assignment_id, FENCE: str(fence)}


def of_warm(*, runner_id: str) -> dict[str, str]:
    return {RUNNER: runner_id, WARM: "1"}


def name_of_run(run_id: str, fence: int) -> str:
    """A run's container, named so that two attempts never meet."""
    return f"interlock-{run_id}-{fence}"


def name_of_warm(token: str) -> str:
    return f"{_WARM_NAME}{token}"


def is_waiting_name(name: str) -> bool:
    """Whether this is a warm container's name; it gets its run's when it is taken."""
    return name.startswith(_WARM_NAME)
