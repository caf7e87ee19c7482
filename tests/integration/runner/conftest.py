"""A connected engine, and a runner process with a control plane that does as the test says."""

import io
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import docker
import pytest

from interlock.v1 import runner_service_pb2 as rpc
from interlock.v1 import stack_pb2
from runner.docker_engine import DockerEngine
from tests.integration.runner.processes import RunnerProcess
from tests.integration.runner.repositories import Repository
from tests.integration.runner.scripted_servicer import ScriptedControlPlane


@pytest.fixture(scope="session")
async def docker_engine(engine_url: str) -> AsyncIterator[DockerEngine]:
    engine = await DockerEngine.connect(engine_url)
    yield engine
    await engine.close()


@pytest.fixture
async def control_plane() -> AsyncIterator[ScriptedControlPlane]:
    control_plane = ScriptedControlPlane()
    await control_plane.start()
    yield control_plane
    await control_plane.stop()


@pytest.fixture
def start_runner(
    control_plane: ScriptedControlPlane, docker_client: docker.DockerClient, tmp_path: Path
) -> Iterator[Callable[..., RunnerProcess]]:
    """Starts a runner against the scripted control plane; everything it made is removed afterwards."""
    started: list[RunnerProcess] = []

    def start(folder: Path = tmp_path / "runner", **environment: str) -> RunnerProcess:
        runner = RunnerProcess(folder, control_plane.address, **environment)
        started.append(runner)
        runner.start()
        return runner

    yield start
    for runner in started:
        runner.end()
        if (runner.folder / "runner-id").exists():
            for container in runner.all_containers(docker_client):
                with suppress(docker.errors.APIError):  # the runner was just removing it
                    container.remove(force=True)


@pytest.fixture
def job(test_image: str) -> Callable[..., rpc.Job]:
    """A job without init, with the fields that are given."""

    def build(command: str, **fields: object) -> rpc.Job:
        defaults = {
            "stack_id": "network",
            "stack_name": "Network",
            "command": command,
            "tool": stack_pb2.TOOL_CUSTOM,
            "image": test_image,
            "pull_policy": stack_pb2.PULL_POLICY_NEVER,
            "creator_login": "ada",
        }
        return rpc.Job(**(defaults | fields))  # type: ignore[arg-type]

    return build


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty git repository."""
    return Repository.new(tmp_path / "repository")


@pytest.fixture(scope="session")
def shellless_image(docker_client: docker.DockerClient) -> Iterator[str]:
    """The name of an image with nothing in it that could run."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("nothing"))
    docker_client.api.import_image_from_data(archive.getvalue(), repository="interlock-test-shellless")
    yield "interlock-test-shellless:latest"
    docker_client.api.remove_image("interlock-test-shellless:latest", force=True)
