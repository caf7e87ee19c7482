"""`make bench-scale`: what dispatching costs with 10 000 stacks of 10 queued runs each, on SQLite and PostgreSQL; and one
control plane with all of them, 200 runners that are real streams without containers, 1000 watchers of one run and 1000
of different ones. Writes its table into docs/scaling.md, and its figures into benchmarks/latest.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import sqlalchemy as sa

from benchmarks import dispatch, forecast, idle_queries, processes, queues, results
from benchmarks.ground import access_token
from benchmarks.queues import TEMPLATE
from benchmarks.results import Figure
from interlock.client import Client
from scripts import postgres
from tests import house
from tests.house import House

STACKS: Final = 10_000
RUNS_PER_STACK: Final = 10
RUNNERS: Final = 200
WATCHERS: Final = 1000
RUNS_PER_WINDOW: Final = 2000
WINDOW_S: Final = 30.0
IDLE_S: Final = 8.0

PAGE: Final = Path(__file__).parent.parent / "docs" / "scaling.md"
_BEGIN, _END = "<!-- measured: written by make bench-scale -->\n", "<!-- end of measured -->\n"
_CACHE: Final = Path(__file__).parent.parent / ".cache"

Rows: TypeAlias = list[tuple[str, str]]
Tell: TypeAlias = Callable[[str, str], None]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    parser.add_argument("--stacks", type=int, default=STACKS)
    parser.add_argument("--runners", type=int, default=RUNNERS)
    parser.add_argument(
        "--runs", type=int, default=RUNS_PER_WINDOW, help="of one window of the dispatch rates"
    )
    parser.add_argument("--keep", action="store_true", help="write the table and benchmarks/latest.json")
    options = parser.parse_args(arguments)
    _CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="scale-", dir=_CACHE) as folder:
        figures = asyncio.run(_figures(Path(folder), options.stacks, options.runners, options.runs))
        rows = asyncio.run(_measure(Path(folder), options.stacks, options.runners))
    if options.keep:
        results.merge(figures, "make bench-scale")
        _keep(
            [
                (f"{figure.name} ({figure.taken_from})", f"{figure.value:.4g} {figure.target.unit}")
                for figure in figures
            ]
            + rows
        )
        forecast.keep()
    return 0


async def _figures(folder: Path, stack_count: int, runners: int, runs: int) -> list[Figure]:
    """Those that have a target."""
    with postgres.running(is_durable=True) as cluster:
        urls = map(_made(cluster), itertools.count(1))
        measured = await dispatch.measure(folder, lambda: next(urls), stack_count, runs)
        for figure in measured:
            print(f"  {figure}", flush=True)
        idle = await idle_queries.measure(folder, next(urls), runners)
    print(f"  {idle[0]}", flush=True)
    return [*measured, *idle]


def _made(cluster: postgres.Cluster) -> Callable[[int], str]:
    """Makes one more empty database; gives its URL."""

    def make(number: int) -> str:
        engine = sa.create_engine(cluster.url(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE scale_{number} TEMPLATE template0")
        engine.dispose()
        return cluster.url(f"scale_{number}")

    return make


async def _measure(folder: Path, stack_count: int, runners: int) -> Rows:
    rows: Rows = []

    def tell(what: str, figure: str) -> None:
        print(f"  {what}: {figure}", flush=True)
        rows.append((what, figure))

    async with house.opened(folder, os.environ["DOCKER_HOST"]) as site:
        await _seed(site, stack_count)
        began = time.monotonic()
        await site.start_server()
        tell("queued runs", f"{stack_count * RUNS_PER_STACK} on {stack_count} stacks")
        tell("control plane, start to serving", f"{time.monotonic() - began:.2f} s")
        async with site.connect() as client:
            await _watched(site, client, tell)
            await _dispatched(site, client, tell, runners)
        tell("memory of the control plane, peak", f"{processes.peak_rss_mib(site.server.pid):.0f} MiB")
    return rows


async def _seed(site: House, stack_count: int) -> None:
    """One stack with its queue is made through the API; the others are copies of its rows."""
    print(f"seeding {stack_count} stacks with {RUNS_PER_STACK} queued runs each …", flush=True)
    async with site.connect() as client:
        await client.stacks.create(TEMPLATE, stack_id=TEMPLATE, image="scale", tool="custom")
        for _ in range(RUNS_PER_STACK):
            await client.runs.create_task(TEMPLATE, "terraform state list")
    site.server.stop()
    engine = sa.create_engine(f"sqlite:///{site.data_dir / 'interlock.db'}")
    queues.fill(engine, stack_count)
    engine.dispose()


async def _watched(site: House, client: Client, tell: Tell) -> None:
    """Watchers of queued runs, while nothing else happens."""
    newest = [run.id async for run in client.runs.list(limit=WATCHERS)]
    for what, run_ids in (("one run", newest[:1]), ("different runs", newest)):
        began = time.monotonic()
        async with _watchers(site, run_ids):
            tell(f"{WATCHERS} watchers of {what}, start to all served", f"{time.monotonic() - began:.1f} s")
            busy = await _busy(site.server.pid, IDLE_S)
            tell(f"{WATCHERS} watchers of {what}, CPU while nothing happens", f"{busy:.1f} % of a core")


async def _dispatched(site: House, client: Client, tell: Tell, runners: int) -> None:
    """Runs that end, and calls meanwhile: first without, then with watchers."""
    newest = [run.id async for run in client.runs.list(limit=WATCHERS)]
    async with _fleet(site, client, tell, runners) as fleet:
        for what, run_ids in (("", []), (f", {WATCHERS} watchers of different runs", newest)):
            async with _watchers(site, run_ids) if run_ids else contextlib.nullcontext():
                before = await _ended(fleet)
                calls_ms = await _calls(client, WINDOW_S)
                after = await _ended(fleet)
            rate = (after.count - before.count) / (after.at - before.at)
            tell(f"runs from claim to result acknowledged{what}", f"{rate:.0f} per second")
            p50, p99 = statistics.median(calls_ms), calls_ms[int(0.99 * len(calls_ms))]
            tell(f"CreateTask meanwhile{what}, p50 and p99", f"{p50:.0f} ms, {p99:.0f} ms")


async def _calls(client: Client, seconds: float) -> list[float]:
    """How long CreateTask took, one call every 50 ms, in order of length."""
    took_ms = []
    end = time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        await client.runs.create_task(TEMPLATE, "terraform state list")
        took_ms.append(1000 * (time.monotonic() - began))
        await asyncio.sleep(0.05)  # a steady caller, not a flood
    return sorted(took_ms)


@asynccontextmanager
async def _fleet(site: House, client: Client, tell: Tell, runners: int) -> AsyncIterator[Process]:
    token = await client.pools.create_token("public", name="fleet")
    began = time.monotonic()
    arguments = (site.address, token.credential, str(runners), "1")
    async with processes.ready("benchmarks.fleet", *arguments) as process:
        tell(f"{runners} runners, start to all welcome", f"{time.monotonic() - began:.1f} s")
        yield process


@asynccontextmanager
async def _watchers(site: House, run_ids: Sequence[str]) -> AsyncIterator[Process]:
    arguments = (site.address, await access_token(site), *run_ids)
    async with processes.ready("benchmarks.watchers", *arguments) as process:
        yield process


@dataclass(frozen=True)
class _Ended:
    """Runs that have ended by then."""

    count: int
    at: float


async def _ended(fleet: Process) -> _Ended:
    assert fleet.stdin is not None
    assert fleet.stdout is not None
    fleet.stdin.write(b"\n")
    await fleet.stdin.drain()
    answer = json.loads(await fleet.stdout.readline())
    return _Ended(answer["ended"], answer["at"])


async def _busy(pid: int, seconds: float) -> float:
    """Per cent of a core that a process and its children use."""
    used, began = processes.family_cpu_s(pid), time.monotonic()
    await asyncio.sleep(seconds)  # the window itself
    return 100 * (processes.family_cpu_s(pid) - used) / (time.monotonic() - began)


def _keep(rows: Rows) -> None:
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    table = "".join(f"| {what} | {figure} |\n" for what, figure in rows)
    heading = f"{results.heading('make bench-scale')}| what | measured |\n| --- | --- |\n"
    PAGE.write_text(before + _BEGIN + heading + table + _END + after)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
