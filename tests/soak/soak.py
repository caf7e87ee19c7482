"""One soak: callers work, faults are injected, all is healed, and the history is gathered and judged."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import docker

from interlock import errors, types
from interlock.client import Client
from scripts.postgres import Cluster
from tests.house import watch
from tests.soak import checker, schedule
from tests.soak.callers import Caller
from tests.soak.ground import Ground, prepared
from tests.soak.history import Execution, History, Record
from tests.soak.injection import Injector

CALLERS = 6
STACKS = 5
END_S = 180.0


@dataclass(slots=True)
class Outcome:
    seed: str
    seconds: float
    injected: Counter[str] = field(default_factory=Counter)
    history: History = field(default_factory=History)
    restarts: dict[str, int] = field(default_factory=dict)

    @property
    def violations(self) -> list[str]:
        return checker.violations(self.history)

    def summary(self) -> str:
        states = Counter(record.state for record in self.history.records)
        output = sum(len(record.output) for record in self.history.records)
        return (
            f"{sum(self.injected.values())} faults, {len(self.history.records)} runs "
            f"({', '.join(f'{count} {state}' for state, count in sorted(states.items()))}), "
            f"{len(self.history.executions)} executions, {output} bytes of output, "
            f"{len(self.history.watched)} watchers, {len(self.violations)} violations"
        )


async def soak(
    folder: Path,
    engine_url: str,
    image: str,
    *,
    seed: str,
    seconds: float,
    cluster: Cluster | None = None,
    has_engine: bool = False,
    end_s: float = END_S,
    is_quiet: bool = True,
) -> Outcome:
    """Never raises for a violation: they are in the outcome. `cluster`, `has_engine`: see `prepared`; what is not over
    `end_s` after the last fault never will be."""
    outcome = Outcome(seed, seconds)
    async with prepared(
        folder, engine_url, image, stacks=STACKS, cluster=cluster, has_engine=has_engine
    ) as ground:
        injector = Injector(ground, is_quiet=is_quiet)
        faults = schedule.drawn(seed, seconds, injector.tracks())
        end = asyncio.Event()
        async with _supervised(ground), ground.connect("callers") as client:
            async with ground.connect("watchers") as watching, asyncio.TaskGroup() as working:
                for number in range(CALLERS):
                    caller = Caller(f"c{number}", client, watching, ground.stacks, outcome.history, seed=seed)
                    working.create_task(_bounded(caller.work(end), outcome.history, seconds + end_s))
                await injector.inject(faults)
                await ground.heal()
                end.set()
            async with ground.connect_directly() as direct:
                await _gather(direct, outcome.history, ground, end_s)
            await ground.end_runners()
            outcome.history.containers_left = [
                name
                for url in ground.engine_urls(engine_url)
                for name in await asyncio.to_thread(_left, url, ground.runner_ids())
            ]
        _look_outside(ground, outcome.history)
        outcome.history.engine_outages = injector.engine_outages
        outcome.injected, outcome.restarts = injector.injected, ground.restarts
    return outcome


@contextlib.asynccontextmanager
async def _supervised(ground: Ground) -> AsyncIterator[None]:
    supervising = asyncio.create_task(ground.supervise())
    try:
        yield
    finally:
        supervising.cancel()
        await asyncio.gather(supervising, return_exceptions=True)


async def _bounded(work: asyncio.Future[None] | object, history: History, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await work  # type: ignore[misc]
    except TimeoutError:
        history.complaints.append("a caller was still waiting long after the last fault was healed")


async def _gather(client: Client, history: History, ground: Ground, end_s: float) -> None:
    """What the control plane says at the end."""
    listed = [run async for run in client.runs.list()]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(end_s):
            for run in listed:
                await client.runs.wait(run.id)
    for run in listed:
        history.records.append(await _record(client, run.id, history))
    slots = {stack: (await client.stacks.get(stack)).active_run_id for stack in ground.stacks}
    history.held_slots = {stack: run_id for stack, run_id in slots.items() if run_id}
    verdict = await client.audit.verify()
    history.audit_fault = "" if verdict.intact else str(verdict.fault)


async def _record(client: Client, run_id: str, history: History) -> Record:
    run = await client.runs.get(run_id)
    is_over = types.RunState.Name(run.state).removeprefix("RUN_STATE_") in checker.FINAL
    output = b""
    try:
        output = (await watch(client, run_id)).output if is_over else b""
    except errors.InterlockError as error:
        history.complaints.append(f"the log of {run_id} cannot be read: {error}")
    events = [event.action async for event in client.audit.list(resource_id=run_id)]
    return Record(
        run_id=run.id,
        command=run.command,
        stack_id=run.stack_id,
        steps=[
            (
                types.RunState.Name(change.state).removeprefix("RUN_STATE_"),
                change.change_time.seconds + change.change_time.nanos / 1e9,
            )
            for change in run.history
        ],
        failure=types.RunFailure.Name(run.failure).removeprefix("RUN_FAILURE_"),
        exit_code=run.exit_code if run.HasField("exit_code") else None,
        fence=run.fencing_token,
        output=output,
        output_sha256=run.output_sha256,
        audited=list(reversed(events)),
    )


def _look_outside(ground: Ground, history: History) -> None:
    """What the executions left on the host."""
    books = {}
    for stack_id in ground.stacks:
        signs = ground.outside / stack_id
        book = signs / "book"
        books[stack_id] = book.read_text().splitlines() if book.exists() else []
        ends = {line.split()[2]: int(line.split()[3]) for line in books[stack_id] if line.startswith("end ")}
        for begin in signs.glob("*.begin"):
            key, container = begin.name.removesuffix(".begin").rsplit(".", 1)
            life = signs / f"{key}.{container}.life"
            began = begin.stat().st_mtime
            last_life = life.stat().st_mtime if life.exists() else began
            history.executions.append(
                Execution(key, stack_id, container, began, last_life, ends.get(container))
            )
    history.books = books


def _left(engine_url: str, runner_ids: list[str]) -> list[str]:
    engine = docker.DockerClient(base_url=engine_url)
    try:
        return [
            str(container.name)
            for runner_id in runner_ids
            for container in engine.containers.list(
                all=True, ignore_removed=True, filters={"label": f"dev.interlock.runner={runner_id}"}
            )
        ]
    finally:
        engine.close()
