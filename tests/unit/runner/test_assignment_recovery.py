"""A run that an earlier process began, on an engine that is slow to tell what it wrote."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import BinaryIO

import pytest

from interlock.v1.runner_service_pb2 import AssignmentRef, Job
from runner import labels
from runner.assignment import Run
from runner.engine import ContainerExit, ContainerId, ContainerState, Engine, FoundContainer
from runner.journal import Entry, Journal, Stage
from runner.warm import WarmPool
from runner.workshop import Workshop


class SilentStream:
    """Nothing has come yet."""

    async def read(self) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def feed(self, data: bytes) -> None:
        """Takes it."""

    async def close(self) -> None:
        """Nothing is open."""


class SlowEngine:
    """Has one running container, whose log does not come."""

    def __init__(self) -> None:
        self.stopped = asyncio.Event()
        self.attached = asyncio.Event()

    async def find(self, wanted: Mapping[str, str]) -> list[FoundContainer]:
        name = labels.name_of_run("run_1", 1)
        return [FoundContainer(id=ContainerId("c1"), name=name, labels=wanted, state=ContainerState.RUNNING)]

    async def replay(self, container: ContainerId) -> SilentStream:
        return SilentStream()

    async def attach_input(self, container: ContainerId) -> SilentStream:
        self.attached.set()
        return SilentStream()

    async def stop(self, container: ContainerId, *, grace_s: float) -> None:
        self.stopped.set()

    async def wait(self, container: ContainerId) -> ContainerExit:
        await self.stopped.wait()
        return ContainerExit(137)

    async def remove(self, container: ContainerId) -> None:
        """It is gone."""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> SlowEngine:
    monkeypatch.setattr("runner.execution._SCRIPT_BEGINS_WITHIN_S", 0.1)
    return SlowEngine()


async def test_a_run_that_passed_its_gate_is_waited_for_however_slow_its_replay_is(
    engine: SlowEngine, tmp_path: Path
) -> None:
    run = _recovered(engine, tmp_path, Stage.GATE_PASSED)
    executing = asyncio.create_task(run.execute())
    async with asyncio.timeout(30):
        await engine.attached.wait()
    await asyncio.sleep(0.3)
    assert not engine.stopped.is_set()
    assert run.report.result is None
    executing.cancel()
    await asyncio.gather(executing, return_exceptions=True)
    assert not engine.stopped.is_set()


async def test_a_run_that_never_got_its_script_is_given_up(engine: SlowEngine, tmp_path: Path) -> None:
    run = _recovered(engine, tmp_path, Stage.STARTED)
    executing = asyncio.create_task(run.execute())
    async with asyncio.timeout(30):
        await engine.stopped.wait()
        while run.report.result is None:
            await asyncio.sleep(0.01)  # the report tells its stream, not its test
    assert "was not performed" in run.report.result.reason
    run.report.settled.set()
    await executing


async def test_a_run_that_is_released_twice_at_once_is_let_go_once(
    engine: SlowEngine, tmp_path: Path
) -> None:
    """By the welcome, and by the refusal of what it had just reported."""
    run = _recovered(engine, tmp_path, Stage.STARTED)
    executing = asyncio.create_task(run.execute())
    await asyncio.sleep(0)
    for _ in range(3):
        run.release("it is over")
        await asyncio.sleep(0)
    run.release("it is over")
    async with asyncio.timeout(30):
        await executing
    assert engine.stopped.is_set()


def _recovered(engine: SlowEngine, folder: Path, stage: Stage) -> Run:
    entry = Entry(
        run_id="run_1",
        assignment_id="asg_1",
        fencing_token=1,
        boot_id="b",
        nonce="n",
        gate_token="g",
        stage=stage,
    )
    return Run(entry, Job(), _workshop(engine, folder), stored=(0, hashlib.sha256().hexdigest()))


def _workshop(engine: SlowEngine, folder: Path) -> Workshop:
    async def no_plan(assignment: AssignmentRef, archive: BinaryIO) -> str:
        raise AssertionError("none of these runs plans")

    async def no_archive(assignment: AssignmentRef) -> AsyncIterator[bytes]:
        yield b""

    full: Engine = engine  # type: ignore[assignment]  # what a recovered run needs of one
    return Workshop(
        engine=full,
        journal=Journal(folder),
        warm=WarmPool(full, runner_id=labels.RUNNER, per_kind=0, total=1),
        runner_id=labels.RUNNER,
        engine_id="engine",
        folder=folder,
        max_spool_bytes=1 << 20,
        fetch_archive=no_archive,
        store_plan=no_plan,
    )
