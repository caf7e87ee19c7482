"""`make bench-scale`: one control plane with 10 000 stacks of 10 queued runs each, 200 runners that are real streams
without containers, 1000 watchers of one run and 1000 of different ones. Writes its table into docs/scaling.md.
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
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from benchmarks import processes, results
from benchmarks.ground import access_token
from control_plane import ids
from control_plane.storage.tables import lanes, run_changes, runs, slots, stacks
from interlock.client import Client
from tests import house
from tests.house import House

STACKS: Final = 10_000
RUNS_PER_STACK: Final = 10
RUNNERS: Final = 200
WATCHERS: Final = 1000
WINDOW_S: Final = 30.0
IDLE_S: Final = 8.0

PAGE: Final = Path(__file__).parent.parent / "docs" / "scaling.md"
_BEGIN, _END = "<!-- measured: written by make bench-scale -->\n", "<!-- end of measured -->\n"
_CACHE: Final = Path(__file__).parent.parent / ".cache"
_TEMPLATE: Final = "scale-0"
_BATCH: Final = 1000

Rows: TypeAlias = list[tuple[str, str]]
Tell: TypeAlias = Callable[[str, str], None]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    parser.add_argument("--stacks", type=int, default=STACKS)
    parser.add_argument("--keep", action="store_true", help="write the table into docs/scaling.md")
    options = parser.parse_args(arguments)
    _CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="scale-", dir=_CACHE) as folder:
        rows = asyncio.run(_measure(Path(folder), options.stacks))
    if options.keep:
        _keep(rows)
    return 0


async def _measure(folder: Path, stack_count: int) -> Rows:
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
            await _dispatched(site, client, tell)
        tell("memory of the control plane, peak", f"{processes.peak_rss_mib(site.server.pid):.0f} MiB")
    return rows


async def _seed(site: House, stack_count: int) -> None:
    """One stack with its queue is made through the API; the others are copies of its rows."""
    print(f"seeding {stack_count} stacks with {RUNS_PER_STACK} queued runs each …", flush=True)
    async with site.connect() as client:
        await client.stacks.create(_TEMPLATE, stack_id=_TEMPLATE, image="scale", tool="custom")
        for _ in range(RUNS_PER_STACK):
            await client.runs.create_task(_TEMPLATE, "terraform state list")
    site.server.stop()
    engine = sa.create_engine(f"sqlite:///{site.data_dir / 'interlock.db'}")
    with engine.begin() as connection:
        for first in range(1, stack_count, _BATCH):
            _copy(
                connection, [f"scale-{number}" for number in range(first, min(first + _BATCH, stack_count))]
            )
    engine.dispose()


def _copy(connection: sa.Connection, stack_ids: Sequence[str]) -> None:
    """The template's stack, slot, lane, runs and history once more for each of these ids."""
    for table, column in ((stacks, stacks.c.id), (slots, slots.c.stack_id), (lanes, lanes.c.stack_id)):
        [row] = _rows(connection, table, column, _TEMPLATE)
        connection.execute(sa.insert(table), [{**row, column.name: stack_id} for stack_id in stack_ids])
    queue = _rows(connection, runs, runs.c.stack_id, _TEMPLATE)
    changes = {row["id"]: _rows(connection, run_changes, run_changes.c.run_id, row["id"]) for row in queue}
    for change in itertools.chain.from_iterable(changes.values()):
        del change["id"]  # the database counts
    copies, history = [], []
    for stack_id in stack_ids:
        for row in queue:
            copy = {**row, "id": ids.new_id("run"), "stack_id": stack_id}
            copies.append(copy)
            history += [{**change, "run_id": copy["id"]} for change in changes[row["id"]]]
    connection.execute(sa.insert(runs), copies)
    connection.execute(sa.insert(run_changes), history)


def _rows(
    connection: sa.Connection, table: sa.Table, column: sa.Column[Any], value: str
) -> list[dict[str, Any]]:
    found = connection.execute(sa.select(table).where(column == value)).mappings()
    return [dict(row) for row in found]


async def _watched(site: House, client: Client, tell: Tell) -> None:
    """Watchers of queued runs, while nothing else happens."""
    newest = [run.id async for run in client.runs.list(limit=WATCHERS)]
    for what, run_ids in (("one run", newest[:1]), ("different runs", newest)):
        began = time.monotonic()
        async with _watchers(site, run_ids):
            tell(f"{WATCHERS} watchers of {what}, start to all served", f"{time.monotonic() - began:.1f} s")
            busy = await _busy(site.server.pid, IDLE_S)
            tell(f"{WATCHERS} watchers of {what}, CPU while nothing happens", f"{busy:.1f} % of a core")


async def _dispatched(site: House, client: Client, tell: Tell) -> None:
    """Runs that end, and calls meanwhile: first without, then with watchers."""
    newest = [run.id async for run in client.runs.list(limit=WATCHERS)]
    async with _fleet(site, client, tell) as fleet:
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
        await client.runs.create_task(_TEMPLATE, "terraform state list")
        took_ms.append(1000 * (time.monotonic() - began))
        await asyncio.sleep(0.05)  # a steady caller, not a flood
    return sorted(took_ms)


@asynccontextmanager
async def _fleet(site: House, client: Client, tell: Tell) -> AsyncIterator[Process]:
    token = await client.pools.create_token("public", name="fleet")
    began = time.monotonic()
    arguments = (site.address, token.credential, str(RUNNERS), "1")
    async with _process("benchmarks.fleet", *arguments) as process:
        tell(f"{RUNNERS} runners, start to all welcome", f"{time.monotonic() - began:.1f} s")
        yield process


@asynccontextmanager
async def _watchers(site: House, run_ids: Sequence[str]) -> AsyncIterator[Process]:
    arguments = (site.address, await access_token(site), *run_ids)
    async with _process("benchmarks.watchers", *arguments) as process:
        yield process


@asynccontextmanager
async def _process(module: str, *arguments: str) -> AsyncIterator[Process]:
    """One of the benchmarks' processes, from when it is ready; it leaves when its standard input ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdin=PIPE, stdout=PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if await process.stdout.readline() != b"ready\n":
        raise RuntimeError(f"{module} did not get ready")
    try:
        yield process
    finally:
        process.stdin.close()
        await process.wait()


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
    date = datetime.now(UTC).isoformat(timespec="seconds")
    table = "".join(f"| {what} | {figure} |\n" for what, figure in rows)
    heading = f"`make bench-scale` on {date}, {results.machine()}.\n\n| what | measured |\n| --- | --- |\n"
    PAGE.write_text(before + _BEGIN + heading + table + _END + after)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
