"""A house of its own for each test: its parts are killed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import interlock
from interlock.client import Client
from tests import house as houses
from tests.house import START_S, House


@pytest.fixture
async def house(tmp_path: Path, engine_url: str) -> AsyncIterator[House]:
    """With a short lease: a runner that is away for two seconds is lost."""
    async with houses.opened(tmp_path, engine_url, INTERLOCK_RUNNER_LEASE_S="2") as made:
        await made.start_runner("one")
        yield made


@pytest.fixture
async def client(house: House) -> AsyncIterator[Client]:
    """Waits for a killed server as long as a loaded machine needs to start another."""
    async with house.connect(retry=interlock.Retry(give_up_after_s=3 * START_S)) as connected:
        yield connected
