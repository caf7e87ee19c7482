"""A scripted server and a client of it, for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import interlock
from tests.unit.sdk.scripted import Server


@pytest.fixture
async def server(short_tmp: Path) -> AsyncIterator[Server]:
    server = Server(short_tmp / "s")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[interlock.Client]:
    """Quick to try again."""
    retry = interlock.Retry(first_wait_s=0.01, longest_wait_s=0.05, give_up_after_s=10)
    async with interlock.connect(server.address, api_key="key_1.right", retry=retry) as client:
        yield client
