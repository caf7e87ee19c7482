"""Object stores for tests: a new bucket each, in the session's server."""

from __future__ import annotations

import pytest

from control_plane import object_address
from control_plane.object_address import ObjectAddress
from scripts import objects


@pytest.fixture
def address(object_server: objects.Server, monkeypatch: pytest.MonkeyPatch) -> ObjectAddress:
    """A bucket with nothing in it; its credentials are in the environment."""
    environment = object_server.environment()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = object_address.read(environment)
    assert found is not None
    return found
