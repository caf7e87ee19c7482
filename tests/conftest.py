"""The real parts that tests stand on, once a session: Open Policy Agent, Docker Engine, the test image, PostgreSQL,
an object store."""

import faulthandler
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from control_plane.storage.database import Database
from scripts import engine, image, objects, opa, postgres
from scripts.progress import BIN
from tests.databases import BACKENDS, Databases

# What set-up has in its cache is found without `make`, too.
os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"

_LEAVE_WITHIN_S = 60


def pytest_unconfigure() -> None:
    """A thread that never ends must not hold CI up after the last test: it fails, and shows where all threads are."""
    faulthandler.dump_traceback_later(_LEAVE_WITHIN_S, exit=True, file=sys.__stderr__ or sys.stderr)


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


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[postgres.Cluster]:
    """A PostgreSQL for this session alone. Tests take databases in it, and let it run."""
    with postgres.running() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def object_server() -> Iterator[objects.Server]:
    """An S3-compatible store for this session alone. Tests take buckets in it, and let it run."""
    with objects.running() as server:
        yield server


@pytest.fixture(scope="session")
def databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Databases]:
    """Makes databases of either kind in milliseconds."""
    made = Databases(
        tmp_path_factory.mktemp("databases"), lambda: request.getfixturevalue("postgres_cluster")
    )
    yield made
    made.close()


@pytest.fixture(params=BACKENDS)
def database_url(request: pytest.FixtureRequest, databases: Databases) -> Iterator[str]:
    """A migrated database for one test, once on SQLite and once on PostgreSQL.

    For one of them only: `@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)`.
    """
    with databases.migrated(request.param) as url:
        yield url


@pytest.fixture(params=BACKENDS)
def empty_database_url(request: pytest.FixtureRequest, databases: Databases) -> Iterator[str]:
    """As `database_url`, without a table in it."""
    with databases.empty(request.param) as url:
        yield url


@pytest.fixture
def postgres_url(databases: Databases) -> Iterator[str]:
    """A migrated database on PostgreSQL for one test."""
    with databases.migrated("postgresql") as url:
        yield url


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A migrated database, open."""
    database = Database(database_url)
    yield database
    database.close()
