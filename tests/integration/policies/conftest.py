"""The compiler and engines on the real OPA."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from policies.workbench.compiler import Compiler
from policies.workbench.toolchain import Toolchain
from tests.integration.policies.house import House


@pytest.fixture(scope="session")
def tools(opa_path: Path) -> Toolchain:
    return Toolchain(opa_path)


@pytest.fixture(scope="session")
def compiler(tools: Toolchain) -> Compiler:
    return Compiler(tools)


@pytest.fixture(scope="module")
async def house(opa_path: Path, compiler: Compiler) -> AsyncIterator[House]:
    """One engine for a file's tests; each test loads policies of its own."""
    async with House.opened(opa_path, compiler) as house:
        yield house
