"""A connected engine for the tests of the runner."""

from collections.abc import AsyncIterator

import pytest

from runner.docker_engine import DockerEngine


@pytest.fixture(scope="session")
async def docker_engine(engine_url: str) -> AsyncIterator[DockerEngine]:
    engine = await DockerEngine.connect(engine_url)
    yield engine
    await engine.close()
