"""A runner's stream leaves nothing behind, wherever it ends."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from control_plane.identity.failure_limit import FailureLimit
from control_plane.pools.admission import Admission, PoolTokenInfo
from control_plane.pools.connections import Connections
from control_plane.runs.desk import Desks
from control_plane.runs.feeds import Feeds
from control_plane.runs.kept import KeptPlans
from control_plane.runs.notices import Notices
from control_plane.runs.reach import Reach
from control_plane.runs.runner_servicer import RunnerServicer
from control_plane.storage.archives import ArchiveStore
from control_plane.storage.output_files import OutputFiles
from interlock.v1 import runner_service_pb2 as rpc
from tests.integration.runs.conftest import RUNNER, World


class OpenDoor(Admission):
    """Lets every runner into the public pool."""

    async def authenticate(self, pool_token: str) -> PoolTokenInfo:
        return PoolTokenInfo("public", pool_token)

    async def record(self, hello: rpc.Hello, token: PoolTokenInfo) -> None:
        pass


def servicer(world: World, folder: Path, connections: Connections) -> RunnerServicer:
    feeds, outputs = Feeds(), OutputFiles(folder / "output")
    notices, archives = Notices(feeds), ArchiveStore(folder / "sources")
    return RunnerServicer(
        world.db,
        OpenDoor(world.db, failures=FailureLimit()),
        connections,
        Desks(world.db, outputs, connections, feeds, notices),
        Reach(world.db, outputs, connections, notices),
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

    async def says_hello() -> AsyncIterator[rpc.ConnectRequest]:
        yield rpc.ConnectRequest(hello=hello)
        await asyncio.get_running_loop().create_future()

    connections = Connections()
    before = asyncio.all_tasks()
    no_context: Any = None
    answers = servicer(world, tmp_path, connections).Connect(says_hello(), no_context)
    welcome = (await anext(answers)).welcome
    assert [verdict.action for verdict in welcome.held] == [rpc.HELD_ACTION_CONTINUE]
    await answers.aclose()  # type: ignore[attr-defined]  # as gRPC does where the client is gone
    assert asyncio.all_tasks() - before == set()
    assert connections.all() == ()
