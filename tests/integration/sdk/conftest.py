"""One `interlock dev` for all tests of this folder, and a stack on it for each."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.sdk.running import Dev


@pytest.fixture(scope="session")
def dev(tmp_path_factory: pytest.TempPathFactory, opa_path: Path, engine_url: str) -> Iterator[Dev]:
    """Control plane, OPA and a runner."""
    dev = Dev(tmp_path_factory.mktemp("dev"), opa=opa_path)
    dev.start()
    yield dev
    dev.interrupt()


@pytest.fixture
def own_dev(tmp_path: Path, opa_path: Path, engine_url: str) -> Iterator[Dev]:
    """One that the test may end."""
    dev = Dev(tmp_path, opa=opa_path)
    yield dev
    if dev._process is not None and dev.process.poll() is None:
        dev.interrupt()


_numbers = itertools.count(1)


@pytest.fixture
def new_stack(dev: Dev, test_image: str, tmp_path: Path) -> Callable[[], str]:
    """Makes a stack with one file, hello.txt."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "hello.txt").write_text("hello\n")

    def make() -> str:
        stack_id = f"stack-{next(_numbers)}"
        dev.run("stack", "create", stack_id, "--tool", "custom", "--image", test_image)
        dev.run("stack", "push", stack_id, str(tmp_path / "source"))
        return stack_id

    return make


@pytest.fixture
def stack(new_stack: Callable[[], str]) -> str:
    return new_stack()
