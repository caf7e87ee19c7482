"""Invariant 3 when a runner's machine is started again: its new boot id proves that a container is gone, and nothing less
does where the runner does not know the run any more."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from pathlib import Path

import docker
import pytest

from interlock import types
from interlock.client import Client
from tests.faults.undisturbed import performing
from tests.holding import containers_of
from tests.house import House, Part, run_task, watch

BOOT_ID = "/proc/sys/kernel/random/boot_id"


async def test_only_a_new_boot_ends_a_performing_run_that_its_runner_has_forgotten(
    house: House, client: Client, test_image: str, docker_client: docker.DockerClient, tmp_path: Path
) -> None:
    run = await performing(client, test_image)
    runner = house.runners["one"]
    runner.kill()
    shutil.rmtree(house.folder / "runner-one" / "assignments")
    runner.start()
    await runner.logged("runner.ready")
    assert (await client.runs.get(run.id)).state == types.RunState.RUN_STATE_PERFORMING
    runner.kill()
    for container in containers_of(docker_client, run.id):
        container.remove(force=True)
    under_another_boot(runner, tmp_path / "boot_id")
    runner.start()
    seen = await watch(client, run.id)
    assert (seen.state, seen.run.failure) == ("FAILED", types.RunFailure.RUN_FAILURE_CONTAINER_LOST)
    assert "machine was started again" in seen.run.state_reason
    assert (await run_task(client, run.stack_id, "echo free")).output == b"free\n"


def under_another_boot(runner: Part, file: Path) -> None:
    """From now on it sees another boot id. Skips the test where that cannot be arranged."""
    file.write_text(f"{uuid.uuid4()}\n")
    script = f'mount --bind {file} {BOOT_ID} && exec "$@"'
    inside = ["unshare", "--mount", "sh", "-c", script, "sh"]
    done = subprocess.run([*inside, "cat", BOOT_ID], capture_output=True, text=True, check=False)
    if done.stdout != file.read_text():
        pytest.skip(f"another boot id cannot be arranged here: {done.stderr.strip()}")
    runner.command = [*inside, *runner.command]
