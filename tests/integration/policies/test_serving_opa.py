"""The OPA that serves: whom it answers, what it leaves behind, and the one that runs elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from control_plane.policies.engine import PolicyEngine
from control_plane.policies.errors import OpaUnavailable
from control_plane.policies.external_opa import ExternalOpa
from control_plane.policies.opa import SupervisedOpa
from policies.workbench.compiler import Compiler
from policies.workbench.kinds import Kind
from tests.integration.policies.house import ADMIN, REQUEST, SANITIZER_KEY, STACK, Desk, House, ref

DENY = 'package a\ndeny contains "{}" if true\n'

# A control plane of which only the engine is there; it prints the child's pid and waits to be killed.
OWNER = """
import asyncio, pathlib, sys
from policies.workbench.compiler import Compiler
from control_plane.policies.engine import PolicyEngine
from control_plane.policies.opa import SupervisedOpa
from policies.workbench.toolchain import Toolchain

async def main():
    path = pathlib.Path(sys.argv[1])
    opa = SupervisedOpa(path)
    await PolicyEngine(opa, Compiler(Toolchain(path)), sanitizer_key="k").start([])
    print(f"serving {opa.pid}", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def port_of(pid: int) -> int:
    arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    [address] = [argument for argument in arguments if argument.startswith("--addr=")]
    return int(address.rpartition(":")[2])


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and ") Z " not in Path(f"/proc/{pid}/stat").read_text()


def bundles() -> set[Path]:
    folders = (Path(tempfile.gettempdir()), Path("/dev/shm"))
    return {path for folder in folders for path in folder.glob("interlock-opa-*")}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer guessed"}])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/data/interlock"),
        ("GET", "/v1/policies"),
        ("GET", "/health"),
        ("PUT", "/v1/policies/policies/x.rego"),
        ("PUT", "/v1/data/interlock"),
        ("POST", "/v1/data/interlock/dispatcher/decisions"),
        ("POST", "/v1/query"),
    ],
)
async def test_a_stranger_on_the_same_machine_gets_nothing(
    house: House, method: str, path: str, headers: dict[str, str]
) -> None:
    assert house.opa.pid is not None
    url = f"http://127.0.0.1:{port_of(house.opa.pid)}{path}"

    async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers) as response:
        assert response.status == 401


async def test_the_keys_that_opa_started_from_do_not_stay_on_disk(opa_path: Path, compiler: Compiler) -> None:
    before = bundles()

    async with House.opened(opa_path, compiler):
        assert bundles() <= before


async def test_the_token_is_in_no_argument_and_no_environment(house: House) -> None:
    connection = await house.opa.connected()

    for name in ("cmdline", "environ"):
        seen = Path(f"/proc/{house.opa.pid}/{name}").read_bytes()  # noqa: ASYNC240
        assert connection.instance.encode() not in seen
        assert b"Bearer" not in seen


async def test_a_stopped_engine_leaves_no_process(opa_path: Path, compiler: Compiler) -> None:
    async with House.opened(opa_path, compiler) as house:
        pid = house.opa.pid
        assert pid is not None

    assert not is_alive(pid)


async def test_opa_dies_with_a_control_plane_that_is_killed(opa_path: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(opa_path), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    while not (line := await owner.stdout.readline()).startswith(b"serving "):
        assert line, "the owner ended"
    pid = int(line.split()[1])

    owner.kill()
    await owner.wait()

    async with asyncio.timeout(30):
        while is_alive(pid):
            await asyncio.sleep(0.01)


async def test_an_opa_that_cannot_start_is_told_with_its_reason(tmp_path: Path, compiler: Compiler) -> None:
    broken = tmp_path / "opa"
    broken.write_text("#!/bin/sh\necho no such luck >&2\nexit 1\n")
    broken.chmod(0o755)
    engine = PolicyEngine(SupervisedOpa(broken, start_timeout_s=0.5), compiler, sanitizer_key=SANITIZER_KEY)

    with pytest.raises(OpaUnavailable, match="no such luck"):
        await engine.start([])


@contextlib.asynccontextmanager
async def elsewhere(opa_path: Path, port: int) -> AsyncIterator[None]:
    """A plain `opa run` that knows nothing of Interlock."""
    process = await asyncio.create_subprocess_exec(
        opa_path, "run", "--server", f"--addr=127.0.0.1:{port}", "--log-level=error", "--skip-version-check",
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free: int = probe.getsockname()[1]
        return free


async def test_an_external_opa_is_filled_changed_and_filled_again_after_a_restart(
    opa_path: Path, compiler: Compiler, port: int
) -> None:
    opa = ExternalOpa(f"http://127.0.0.1:{port}", deadline_s=1.5)
    desk = Desk(PolicyEngine(opa, compiler, sanitizer_key=SANITIZER_KEY), compiler)
    first = await desk.compiled(Kind.TASK, DENY.format("first"), "first")

    async with elsewhere(opa_path, port):
        await desk.engine.start([first])
        second = await desk.load(Kind.TASK, DENY.format("second"), "second")
        assert (await desk.task(ref("first"), second)).messages == ["first", "second"]
    with pytest.raises(OpaUnavailable):
        await desk.task(second)
    async with elsewhere(opa_path, port), asyncio.timeout(10):
        while not await _answers(desk):
            await asyncio.sleep(0.05)
        assert (await desk.task(ref("first"), second)).messages == ["first", "second"]
    await desk.engine.stop()


async def _answers(desk: Desk) -> bool:
    try:
        await desk.task(ref("second"))
    except OpaUnavailable:
        return False
    return True


async def test_policies_that_an_external_opa_holds_from_before_are_removed(
    opa_path: Path, compiler: Compiler, port: int
) -> None:
    async with elsewhere(opa_path, port):
        before = Desk(
            PolicyEngine(ExternalOpa(f"http://127.0.0.1:{port}"), compiler, sanitizer_key=SANITIZER_KEY),
            compiler,
        )
        await before.engine.start([await before.compiled(Kind.TASK, DENY.format("old"), "old")])
        await before.engine.stop()

        opa = ExternalOpa(f"http://127.0.0.1:{port}")
        after = Desk(PolicyEngine(opa, compiler, sanitizer_key=SANITIZER_KEY), compiler)
        await after.engine.start([await after.compiled(Kind.TASK, DENY.format("new"), "new")])
        paths = await (await opa.connected()).policy_paths()
        await after.engine.stop()

    assert sorted(paths) == [
        "interlock/dispatcher.rego",
        "interlock/sanitized.rego",
        "interlock/v0.rego",
        "policies/new.rego",
    ]


@pytest.mark.parametrize("url", ["", "localhost:8181", "ftp://x", "http://", "http://x:1/path"])
async def test_an_external_address_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="INTERLOCK_OPA_URL must be"):
        ExternalOpa(url)


async def test_an_opa_that_is_away_is_told_before_a_change_is_committed(
    opa_path: Path, compiler: Compiler
) -> None:
    async with House.opened(opa_path, compiler, deadline_s=0.3) as house:
        await house.engine.ensure_available()

        await house.freeze()

        with pytest.raises(OpaUnavailable):
            await house.engine.ensure_available()


async def test_the_environment_names_the_opa_to_use(opa_path: Path, port: int) -> None:
    environment = {"INTERLOCK_OPA": str(opa_path), "INTERLOCK_OPA_URL": f"http://127.0.0.1:{port}"}

    async with elsewhere(opa_path, port):
        engine = PolicyEngine.from_environment(sanitizer_key=SANITIZER_KEY, environment=environment)
        await engine.start([])
        decision = await engine.decide_task(REQUEST, ADMIN, STACK, "ls", access=(), task=())
        await engine.stop()

    assert decision.is_allowed
