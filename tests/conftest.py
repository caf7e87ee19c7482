"""The real parts that tests stand on, once a session: Open Policy Agent, Docker Engine and the test image."""

import os
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from scripts import engine, image, opa
from scripts.progress import BIN

# What set-up has in its cache is found without `make`, too.
os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(scope="session")
def opa_path() -> Path:
    return opa.ensure()


@pytest.fixture(scope="session")
def engine_url() -> Iterator[str]:
    """The address of a running Docker Engine, also in DOCKER_HOST for the processes that tests start."""
    before = os.environ.get("DOCKER_HOST")
    with engine.running() as url:
        os.environ["DOCKER_HOST"] = url
        yield url
    if before is None:
        del os.environ["DOCKER_HOST"]


@pytest.fixture(scope="session")
def docker_client(engine_url: str) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=engine_url)
    yield client
    client.close()


@pytest.fixture(scope="session")
def test_image(engine_url: str) -> str:
    """The tag of an image with busybox's sh and Terraform, user 1983, nothing else."""
    return os.environ.get("INTERLOCK_TEST_IMAGE") or image.ensure(engine_url)


@pytest.fixture
def short_tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a path short enough for a unix socket in it (107 bytes), which tmp_path often is not."""
    return tmp_path_factory.mktemp("s")
