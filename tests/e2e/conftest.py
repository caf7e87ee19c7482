"""One house for the session: a control plane with its OPA, and a runner on the real engine."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from interlock import types
from interlock.client import Client
from tests import house as houses
from tests.house import House


@pytest.fixture(scope="session")
async def served(tmp_path_factory: pytest.TempPathFactory, engine_url: str) -> AsyncIterator[House]:
    """A control plane without a runner."""
    async with houses.opened(tmp_path_factory.mktemp("served"), engine_url) as house:
        yield house


@pytest.fixture(scope="session")
async def house(
    tmp_path_factory: pytest.TempPathFactory, engine_url: str, test_image: str
) -> AsyncIterator[House]:
    """A control plane and a runner that takes four runs at once. The test image is there."""
    async with houses.opened(tmp_path_factory.mktemp("house"), engine_url) as made:
        await made.start_runner("one", capacity=4)
        yield made


@pytest.fixture
async def admin(served: House) -> AsyncIterator[Client]:
    async with served.connect() as client:
        yield client


@pytest.fixture
async def client(house: House) -> AsyncIterator[Client]:
    """An admin of the house with a runner."""
    async with house.connect() as connected:
        yield connected


def new_id(prefix: str) -> str:
    """Unused in this session."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


async def new_stack(client: Client, image: str = "nobody/needs-it:here", **options: object) -> types.Stack:
    """A stack of its own for a test; its init does nothing unless the test says otherwise."""
    name = new_id("stack")
    settings: dict[str, object] = {"tool": "custom", "pull_policy": "never", **options}
    return await client.stacks.create(name, image=image, **settings)  # type: ignore[arg-type]
