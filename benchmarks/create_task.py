"""CreateTask: latency for one caller, rate for sixteen. Ten policies of a thousand apply, every answer is durable."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from benchmarks import policy_set
from benchmarks.ground import Ground
from benchmarks.quiet import WINDOWS, Windows
from benchmarks.results import Figure
from tests.house import House

CALLERS = 16
WINDOW_S = 5.0


async def measure(ground: Ground) -> list[Figure]:
    async with ground.opened() as site:
        key = await _prepare(site, ground.image)
        latency, rate = Windows(), Windows()
        async with _callers(site, key, 1) as [caller]:
            for _ in range(WINDOWS):
                async with latency.window() as values:
                    ms = sorted((await caller.call(WINDOW_S)).ms)
                    values["create_task_p50"] = statistics.median(ms)
                    values["create_task_p99"] = ms[int(0.99 * len(ms))]
        async with _callers(site, key, CALLERS) as callers:
            for _ in range(WINDOWS):
                async with rate.window() as values:
                    answers = await asyncio.gather(*(caller.call(WINDOW_S) for caller in callers))
                    values["create_task_rate"] = _rate(answers)
    return latency.figures() + rate.figures()


class _Calls:
    """What one caller did in a window."""

    def __init__(self, answer: bytes) -> None:
        fields = json.loads(answer)
        self.began: float = fields["began"]
        self.ended: float = fields["ended"]
        self.ms: list[float] = fields["ms"]


class _Caller:
    def __init__(self, process: Process) -> None:
        self._process = process

    async def ready(self) -> None:
        if await self._line() != b"ready\n":
            raise RuntimeError("a caller did not get ready")

    async def call(self, seconds: float) -> _Calls:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n".encode())
        return _Calls(await self._line())

    async def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.readline()


async def _prepare(site: House, image: str) -> str:
    """Policies and stacks, one for each caller; returns the callers' key, which is no admin's."""
    async with site.connect() as admin:
        await policy_set.attach(admin)
        for number in range(CALLERS):
            await admin.stacks.create(
                _stack(number),
                stack_id=_stack(number),
                image=image,
                tool="custom",
                labels=policy_set.STACK_LABELS,
            )
        created = await admin.identity.create_key("callers", teams=policy_set.TEAMS)
    site.server.stop()
    policy_set.fill_up(site.data_dir / "interlock.db")
    await site.start_server()
    return created.credential


@asynccontextmanager
async def _callers(site: House, key: str, count: int) -> AsyncIterator[Sequence[_Caller]]:
    async with AsyncExitStack() as stack:
        callers = []
        for number in range(count):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "benchmarks.caller", site.address, key, _stack(number),
                stdin=PIPE, stdout=PIPE, limit=1 << 20,
            )  # fmt: skip
            callers.append(_Caller(process))
            stack.push_async_callback(callers[-1].end)
        for caller in callers:
            await caller.ready()
        yield callers


def _rate(answers: Sequence[_Calls]) -> float:
    began = min(answer.began for answer in answers)
    ended = max(answer.ended for answer in answers)
    return sum(len(answer.ms) for answer in answers) / (ended - began)


def _stack(number: int) -> str:
    return f"bench-{number}"
