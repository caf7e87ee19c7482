"""A runner's stream leaves nothing behind, wherever it ends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from control_plane.identity.failure_limit import FailureLimit
from control_plane.pools.admission import Admission, PoolTokenInfo
from control_plane.pools.connections import MAX_OUTGOING, Connections
from control_plane.replicas.registry import Registry
from control_plane.runs import progress
from control_plane.runs.desk import Desks
from control_plane.runs.feeds import Feeds
from control_plane.runs.kept import KeptPlans
from control_plane.runs.notices import Notices
from control_plane.runs.reach import Reach
from control_plane.runs.runner_servicer import RunnerServicer
from control_plane.runs.states import RunState
from control_plane.storage.archives import ArchiveStore
from control_plane.storage.output_files import OutputFiles
from interlock.v1 import run_pb2, stack_pb2
from interlock.v1 import runner_service_pb2 as rpc
from tests.integration.runs.conftest import RUNNER, World


class OpenDoor(Admission):
    """Lets every runner into the public pool."""

    async def authenticate(self, pool_token: str) -> PoolTokenInfo:
        return PoolTokenInfo("public", pool_token)

    async def record(
        self, hello: rpc.Hello, token: PoolTokenInfo, *, may_move: Callable[[sa.Connection], bool]
    ) -> None:
        pass


NO_CONTEXT: Any = None


async def saying(hello: rpc.Hello) -> AsyncIterator[rpc.ConnectRequest]:
    """All that the runner says, on a stream that stays open."""
    yield rpc.ConnectRequest(hello=hello)
    await asyncio.get_running_loop().create_future()


def servicer(
    world: World, folder: Path, connections: Connections, replicas: Registry | None = None
) -> RunnerServicer:
    feeds, outputs = Feeds(), OutputFiles(folder / "output")
    notices, archives = Notices(feeds), ArchiveStore(folder / "sources")
    replicas = replicas or Registry(world.db)
    return RunnerServicer(
        world.db,
        OpenDoor(world.db, failures=FailureLimit()),
        connections,
        Desks(world.db, outputs, connections, feeds, notices, replicas),
        Reach(world.db, outputs, connections, notices, replicas),
        world.sealer,
        archives,
        KeptPlans(world.db, archives, world.sealer),
    )


async def test_a_stream_that_is_cut_before_its_welcome_was_sent_leaves_no_task_behind(
    world: World, tmp_path: Path
) -> None:
    ref = await world.assign(await world.queue())
    hello = rpc.Hello(protocol_version=1, runner_id=RUNNER, capacity=1, boot_id="boot-1")
    hello.held.add(assignment=ref)

    connections = Connections()
    before = asyncio.all_tasks()
    answers = servicer(world, tmp_path, connections).Connect(saying(hello), NO_CONTEXT)
    welcome = (await anext(answers)).welcome
    assert [verdict.action for verdict in welcome.held] == [rpc.HELD_ACTION_CONTINUE]
    await answers.aclose()  # type: ignore[attr-defined]  # as gRPC does where the client is gone
    assert asyncio.all_tasks() - before == set()
    assert connections.all() == ()


async def test_a_welcome_with_large_jobs_comes_in_parts_and_none_is_left_out(
    world: World, tmp_path: Path
) -> None:
    hello = rpc.Hello(protocol_version=1, runner_id=RUNNER, capacity=9, boot_id="boot-1")
    for number in range(5):
        await world.add_stack(f"stack-{number}")
        run_id = await world.queue(f"stack-{number}")
        job = rpc.Job(command="true", files=[stack_pb2.MountedFile(path="a", content=bytes(3 << 20))])
        hello.held.add(assignment=await world.assign(run_id, job=job))
    answers = servicer(world, tmp_path, Connections()).Connect(saying(hello), NO_CONTEXT)
    parts = [(await anext(answers)).welcome]
    while parts[-1].more:
        parts.append((await anext(answers)).welcome)
    await answers.aclose()  # type: ignore[attr-defined]
    assert [len(part.held) for part in parts] == [2, 2, 1]
    assert [verdict.assignment for part in parts for verdict in part.held] == [
        held.assignment for held in hello.held
    ]


async def test_a_runner_that_does_not_read_its_stream_is_counted_as_gone(
    world: World, tmp_path: Path
) -> None:
    ref = await world.assign(await world.queue())
    hello = rpc.Hello(protocol_version=1, runner_id=RUNNER, capacity=1, boot_id="boot-1")
    hello.held.add(assignment=ref)
    connections = Connections()
    answers = servicer(world, tmp_path, connections).Connect(saying(hello), NO_CONTEXT)
    await anext(answers)
    runner = connections.of_runner(RUNNER)
    assert runner is not None
    for _ in range(MAX_OUTGOING + 1):
        runner.send(rpc.ConnectResponse(output_ack=rpc.OutputAck(assignment=ref)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert connections.all() == ()
    await answers.aclose()  # type: ignore[attr-defined]


async def test_a_new_boot_proves_nothing_on_another_machine_and_ends_a_run_on_the_same(
    world: World, tmp_path: Path
) -> None:
    """Invariant 3: only the machine on which the container was can prove that it is gone."""
    run_id = await world.queue()
    ref = await world.assign(run_id)
    await world.db.write(lambda tx: progress.ask_gate(tx, ref, RUNNER))
    replicas = Registry(world.db)
    for boot_id, machine_id, after in (
        ("boot-2", "", RunState.PERFORMING),
        ("boot-2", "machine-2", RunState.PERFORMING),
        ("boot-1", "machine-1", RunState.PERFORMING),
        ("boot-2", "machine-1", RunState.FAILED),
    ):
        hello = rpc.Hello(
            protocol_version=1, runner_id=RUNNER, capacity=1, boot_id=boot_id, machine_id=machine_id
        )
        answers = servicer(world, tmp_path, Connections(), replicas).Connect(saying(hello), NO_CONTEXT)
        await anext(answers)
        await answers.aclose()  # type: ignore[attr-defined]
        assert await world.state(run_id) is after


async def test_a_run_that_performs_is_performing_also_where_a_restored_record_is_behind(
    world: World, tmp_path: Path
) -> None:
    """Invariant 3: else the lease of a run before its gate could end it while it performs."""
    run_id = await world.queue()
    ref = await world.assign(run_id)
    hello = rpc.Hello(protocol_version=1, runner_id=RUNNER, capacity=1, boot_id="boot-1")
    hello.held.add(assignment=ref, phase=run_pb2.RUN_STATE_PERFORMING)
    answers = servicer(world, tmp_path, Connections()).Connect(saying(hello), NO_CONTEXT)
    [verdict] = (await anext(answers)).welcome.held
    await answers.aclose()  # type: ignore[attr-defined]
    assert verdict.gate_open
    assert await world.state(run_id) is RunState.PERFORMING
