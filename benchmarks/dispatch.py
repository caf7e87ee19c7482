"""Dispatching through the real scheduler and store, without processes around them: how many runs a second are claimed
and finished, and what a long queue costs one dispatch."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import queues
from benchmarks.queues import TEMPLATE
from benchmarks.results import Figure
from control_plane.pools.connections import Connections, RunnerConnection
from control_plane.runs import progress, store
from control_plane.runs.scheduler import Scheduler
from control_plane.storage.database import Database
from control_plane.storage.migrate import migrate
from control_plane.storage.outputs import StoredOutput
from interlock.v1 import runner_service_pb2 as rpc
from tests.integration.runs import way
from tests.integration.runs.conftest import ADA, connect_runner, insert_stack

RUNS_PER_STACK: Final = 10
FEW_STACKS: Final = 10
# Of one dispatch: fewer than a batch, so that the ten stacks have as many to give as ten thousand.
_AT_ONCE: Final = 8
_ROUNDS: Final = 60
# At work at once when the rate is measured, as 200 runners of capacity 1.
_RUNNERS: Final = 200
_WINDOWS: Final = 5
_OUTPUT: Final = StoredOutput(3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


async def measure(
    folder: Path, postgres_url: Callable[[], str], stack_count: int, runs_per_window: int
) -> list[Figure]:
    """`postgres_url` gives the address of one more empty database each time."""
    growth: dict[str, list[float]] = {}
    rates = []
    for name, address in (("sqlite", _in(folder)), ("pg", postgres_url)):
        async with _filled(address(), FEW_STACKS) as few, _filled(address(), stack_count) as many:
            growth[name] = [await _once(many) / await _once(few) for _ in range(_ROUNDS)]
            windows = [await _rate(many, runs_per_window) for _ in range(_WINDOWS)]
        rates.append(_figure(name, windows, runs_per_window))
    medians = {name: statistics.median(ratios) for name, ratios in growth.items()}
    taken_from = (
        f"the worse of the medians of {_ROUNDS} pairs of dispatches, {_AT_ONCE} runs each: "
        + ", ".join(medians)
    )
    return [Figure("dispatch_growth", max(medians.values()), list(medians.values()), taken_from), *rates]


def _figure(name: str, windows: Sequence[tuple[float, float]], count: int) -> Figure:
    alone, with_gates = zip(*windows, strict=True)
    taken_from = (
        f"median of {_WINDOWS} windows of {count} runs, {_RUNNERS} at once; "
        f"with their gates {statistics.median(with_gates):.0f} per second"
    )
    return Figure(f"dispatch_rate_{name}", statistics.median(alone), alone, taken_from)


def _in(folder: Path) -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"sqlite:///{folder / f'dispatch-{next(numbers)}.db'}"


class _Dispatcher:
    """A scheduler, and one runner that takes what it is given."""

    def __init__(self, db: Database, scheduler: Scheduler, connections: Connections) -> None:
        self.db = db
        self.scheduler = scheduler
        self.connections = connections
        self.runner = connect_runner(connections, capacity=0)

    @property
    def at_work(self) -> int:
        return len(self.runner.active)

    async def dispatch(self, at_most: int) -> list[rpc.AssignmentRef]:
        """What was given out."""
        self.runner.capacity = self.at_work + at_most
        await way.dispatch(self.scheduler)
        return _taken(self.runner)

    async def open_gate(self, ref: rpc.AssignmentRef) -> None:
        gate = await self.db.write(lambda tx: progress.ask_gate(tx, ref, self.runner.runner_id))
        if not gate.go:
            raise RuntimeError(gate.reason)

    async def finish(self, ref: rpc.AssignmentRef) -> None:
        result = rpc.RunResult(assignment=ref, outcome=rpc.RUN_OUTCOME_EXITED, exit_code=0)
        await self.db.write(lambda tx: progress.result(tx, result, self.runner.runner_id, _OUTPUT))
        self.connections.freed(self.runner, ref.assignment_id)


@asynccontextmanager
async def _filled(url: str, stack_count: int) -> AsyncIterator[_Dispatcher]:
    db = Database(url)
    try:
        migrate(db.engine)
        await db.write(lambda tx: insert_stack(tx, TEMPLATE, "public"))
        for number in range(RUNS_PER_STACK):
            await way.creation(db).create(ADA, way.request(f"scale-{number}", TEMPLATE))
        await asyncio.to_thread(queues.fill, db.engine, stack_count)
        yield _Dispatcher(db, *way.scheduler(db))
    finally:
        db.close()


async def _once(dispatcher: _Dispatcher) -> float:
    """Seconds that one dispatch takes. What it started is ended, and queued once more."""
    began = time.perf_counter()
    refs = await dispatcher.dispatch(_AT_ONCE)
    took_s = time.perf_counter() - began
    if len(refs) != _AT_ONCE:
        raise RuntimeError(f"{len(refs)} runs were started, not {_AT_ONCE}")
    for ref in refs:
        await dispatcher.finish(ref)
    for ref in refs:
        run = await dispatcher.db.read(partial(store.find, run_id=ref.run_id))
        if run is not None:
            await way.creation(dispatcher.db).create(ADA, way.request("", run.stack_id))
    return took_s


async def _rate(dispatcher: _Dispatcher, count: int) -> tuple[float, float]:
    """Runs per second that are claimed and finished, and the same with their gates. While half of the runners' runs are
    claimed, those of the other half are finished, all at once; their gates are opened in between."""
    claims_s = gates_s = 0.0
    left, performing = count, list[rpc.AssignmentRef]()
    while left or performing:
        began = time.perf_counter()
        claimed, _ = await asyncio.gather(
            _claim(dispatcher, min(left, _RUNNERS // 2)),
            asyncio.gather(*map(dispatcher.finish, performing)),
        )
        both_done = time.perf_counter()
        await asyncio.gather(*map(dispatcher.open_gate, claimed))
        claims_s += both_done - began
        gates_s += time.perf_counter() - both_done
        left, performing = left - len(claimed), claimed
    return count / claims_s, count / (claims_s + gates_s)


async def _claim(dispatcher: _Dispatcher, count: int) -> list[rpc.AssignmentRef]:
    refs: list[rpc.AssignmentRef] = []
    while len(refs) < count:
        refs += await dispatcher.dispatch(count - len(refs))
    return refs


def _taken(runner: RunnerConnection) -> list[rpc.AssignmentRef]:
    refs = []
    while not runner.outgoing.empty():
        message = runner.outgoing.get_nowait()
        if message is not None:
            refs.append(message.assignment.assignment)
    return refs
