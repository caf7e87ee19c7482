"""A lease that ran down counts only where no newer one runs."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from control_plane.pools.connections import Connections
from control_plane.replicas.registry import Registry
from control_plane.runs.feeds import Feeds
from control_plane.runs.notices import Notices
from control_plane.runs.reach import Reach
from control_plane.runs.states import RunState
from control_plane.storage.output_files import OutputFiles
from tests.integration.runs.conftest import OTHER_RUNNER, RUNNER, World


class Timers:
    """Stands for the loop's timers: they fire when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fire: list[Callable[[], None]] = []
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", self._later)

    def _later(self, _delay_s: float, call: Callable[..., None], *arguments: object) -> asyncio.Handle:
        self.fire.append(lambda: call(*arguments))
        return asyncio.Handle(call, arguments, asyncio.get_running_loop())


@pytest.fixture
def reach(world: World, tmp_path: Path) -> Reach:
    return Reach(
        world.db, OutputFiles(tmp_path / "output"), Connections(), Notices(Feeds()), Registry(world.db)
    )


async def test_a_runner_that_came_back_and_went_again_has_a_whole_lease(
    world: World, reach: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.add_stack("other")
    run_id, others = await world.queue(), await world.queue("other")
    await world.assign(run_id)
    await world.assign(others, OTHER_RUNNER)
    with monkeypatch.context() as patched:
        timers = Timers(patched)
        reach.lost(RUNNER, 1)
        timers.fire[0]()
        # Before the end of that lease is recorded, the runner comes, and its stream breaks again.
        reach.found(RUNNER)
        reach.lost(RUNNER, 1)
        reach.lost(OTHER_RUNNER, 1)
    serving = asyncio.create_task(reach.serve())
    try:
        async with asyncio.timeout(60):
            while (await world.row(others)).unreachable_since is None:
                await asyncio.sleep(0.01)
            assert await world.state(run_id) is RunState.READY
            timers.fire[1]()
            while await world.state(run_id) is not RunState.QUEUED:
                await asyncio.sleep(0.01)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
