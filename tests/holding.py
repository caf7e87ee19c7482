"""Commands that go on until a test lets them end: no test has to be quicker than a sleep."""

from __future__ import annotations

from typing import Any

import docker

# `release` makes the file in the run's container.
HOLD = "until [ -e /tmp/released ]; do sleep 0.1; done"


def containers_of(engine: docker.DockerClient, run_id: str) -> list[Any]:
    """The containers that bear the run's id in their name."""
    return engine.containers.list(all=True, ignore_removed=True, filters={"name": run_id})


def release(engine: docker.DockerClient, run_id: str) -> None:
    """Lets the run's held command end. The run must have passed its gate."""
    [container] = containers_of(engine, run_id)
    assert container.exec_run(["sh", "-c", ": > /tmp/released"]).exit_code == 0
