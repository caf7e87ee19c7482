"""A thousand forbidden tasks while OPA is killed, stopped, and answers garbage, in turn: how many are created."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import interlock
from benchmarks import policy_set
from benchmarks.garbling import Garbler
from benchmarks.ground import Ground
from benchmarks.processes import opas_of
from benchmarks.results import Figure
from interlock import errors
from policies.workbench.toolchain import find_opa
from tests import house
from tests.house import House

CALLS = {"killed": 334, "stopped": 333, "garbled": 333}
AT_ONCE = 8
STACK = "bench"
# Denied by an example; each is another one.
FORBIDDEN = "terraform destroy -target={}"
_UP_S, _STOPPED_S = 0.3, 3.0
_IMPATIENT = interlock.Retry(give_up_after_s=0)

Trouble = Callable[[House], Awaitable[None]]


async def measure(ground: Ground) -> list[Figure]:
    seen: dict[str, Counter[str]] = {}
    async with ground.opened() as site:
        key = await _prepare(site, ground.image)
        seen["killed"] = await _call(site, key, CALLS["killed"], _kill)
        seen["stopped"] = await _call(site, key, CALLS["stopped"], _stop)
    async with _behind_a_garbler(ground) as (site, garbler):
        key = await _prepare(site, ground.image)
        garbler.is_on = True
        seen["garbled"] = await _call(site, key, CALLS["garbled"], _nothing)
    for trouble, counts in seen.items():
        if not counts["closed"]:
            raise RuntimeError(f"nothing of it came to the calls: {trouble}: {counts}")
    wrong = [counts["open"] for counts in seen.values()]
    said = ", ".join(
        f"{name} ({counts['denied']} denied, {counts['closed']} without an answer)"
        for name, counts in seen.items()
    )
    return [Figure("fail_open", sum(wrong), wrong, said)]


async def _prepare(site: House, image: str) -> str:
    """Returns the callers' key."""
    async with site.connect() as admin:
        await policy_set.attach(admin)
        labels = policy_set.STACK_LABELS
        await admin.stacks.create(STACK, stack_id=STACK, image=image, tool="custom", labels=labels)
        return (await admin.identity.create_key("callers", teams=policy_set.TEAMS)).credential


async def _call(site: House, key: str, calls: int, trouble: Trouble) -> Counter[str]:
    """So many calls, some at once, in that trouble: what they came to."""
    counts: Counter[str] = Counter()
    numbers = iter(range(calls))
    async with interlock.connect(site.address, api_key=key, retry=_IMPATIENT) as client:
        await client.identity.get_caller()

        async def call() -> None:
            for number in numbers:
                try:
                    await client.runs.create_task(STACK, FORBIDDEN.format(number))
                except errors.TaskDenied:
                    counts["denied"] += 1
                except errors.InterlockError:
                    counts["closed"] += 1
                else:
                    counts["open"] += 1

        troubling = asyncio.ensure_future(trouble(site))
        await asyncio.gather(*(call() for _ in range(AT_ONCE)))
        troubling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await troubling
    return counts


async def _kill(site: House) -> None:
    while True:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            for pid in opas_of(site.server.pid):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(_UP_S)  # it may decide in between


async def _stop(site: House) -> None:
    while True:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            pids = opas_of(site.server.pid)
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(_STOPPED_S if pids else 0)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(_UP_S)


async def _nothing(site: House) -> None:
    """The trouble is there already."""


@asynccontextmanager
async def _behind_a_garbler(ground: Ground) -> AsyncIterator[tuple[House, Garbler]]:
    """A control plane with an OPA that runs elsewhere; all its answers come through the garbler."""
    with tempfile.TemporaryDirectory(dir=ground.folder) as folder:
        port = _free_port()
        opa = await asyncio.create_subprocess_exec(
            find_opa(),
            "run",
            "--server",
            f"--addr=127.0.0.1:{port}",
            "--log-level=error",
            "--skip-version-check",
        )
        try:
            async with Garbler(port).serving() as garbler:
                address = f"http://127.0.0.1:{garbler.port}"
                async with house.opened(Path(folder), ground.engine_url, INTERLOCK_OPA_URL=address) as site:
                    yield site, garbler
        finally:
            opa.kill()
            await opa.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
