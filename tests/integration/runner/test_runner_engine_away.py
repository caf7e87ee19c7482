"""An engine that goes away and comes back: no run suffers behind its gate, and none is taken meanwhile."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import docker
import pytest

from interlock.v1 import runner_service_pb2 as rpc
from tests.holding import HOLD, release
from tests.integration.runner.engine_line import EngineLine
from tests.integration.runner.processes import RunnerProcess
from tests.integration.runner.scripted_servicer import ScriptedControlPlane

StartRunner = Callable[..., RunnerProcess]
MakeJob = Callable[..., rpc.Job]


@pytest.fixture
async def line(engine_url: str, short_tmp: Path) -> AsyncIterator[EngineLine]:
    line = EngineLine(short_tmp / "engine.sock", engine_url)
    await line.open()
    yield line
    await line.cut()


async def test_output_that_was_cut_is_replayed_and_the_run_ends_as_if_nothing_was(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    line: EngineLine,
    docker_client: docker.DockerClient,
) -> None:
    runner = start_runner(DOCKER_HOST=line.url)
    await control_plane.connected()
    command = f"echo begin; {HOLD}; i=0; while [ $i -lt 5000 ]; do echo $i; i=$((i+1)); done; exit 4"
    run = control_plane.assign(job(command))
    await control_plane.until(lambda: b"begin" in run.output)
    await line.cut()
    await runner.until_logged("container.replay_cut")
    release(docker_client, run.ref.run_id)
    await line.open()
    result = await control_plane.ended(run)
    assert (result.outcome, result.exit_code) == (rpc.RUN_OUTCOME_EXITED, 4)
    assert run.text == "begin\n" + "".join(f"{number}\n" for number in range(5000))


async def test_the_gate_opens_when_the_engine_is_back(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob, line: EngineLine
) -> None:
    control_plane.answer_gates = False
    runner = start_runner(DOCKER_HOST=line.url)
    await control_plane.connected()
    run = control_plane.assign(job("echo performed"))
    await control_plane.until(lambda: "gate" in run.said)
    await line.cut()
    control_plane.open_gate(run)
    await runner.until_logged("container.gate_not_reached")
    await line.open()
    result = await control_plane.ended(run)
    assert result.exit_code == 0
    assert run.text == "performed\n"


async def test_a_runner_without_its_engine_says_so_and_comes_back_by_itself(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob, line: EngineLine
) -> None:
    start_runner(DOCKER_HOST=line.url)
    await control_plane.connected()
    await line.cut()
    await control_plane.until(lambda: control_plane.statuses[-1].engine_away)
    assert control_plane.statuses[-1].reason
    await line.open()
    await control_plane.until(lambda: not control_plane.statuses[-1].engine_away)
    run = control_plane.assign(job("echo back"))
    await control_plane.ended(run)
    assert run.text == "back\n"


async def test_a_runner_whose_engine_was_never_there_connects_and_says_so(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob, line: EngineLine
) -> None:
    await line.cut()
    start_runner(DOCKER_HOST=line.url)
    await control_plane.connected()
    assert control_plane.statuses[-1].engine_away
    await line.open()
    await control_plane.until(lambda: not control_plane.statuses[-1].engine_away)
    run = control_plane.assign(job("echo back"))
    await control_plane.ended(run)


async def test_a_run_that_is_stopped_while_the_engine_is_away_ends_when_it_is_back(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    line: EngineLine,
    docker_client: docker.DockerClient,
) -> None:
    runner = start_runner(DOCKER_HOST=line.url)
    await control_plane.connected()
    run = control_plane.assign(job("echo performed", custom_init=["echo init; sleep 600"]))
    await control_plane.until(lambda: b"init" in run.output)
    await line.cut()
    control_plane.send(rpc.ConnectResponse(stop=rpc.StopRequest(assignment=run.ref, reason="a caller asked")))
    await runner.until_logged("engine.awaited")
    assert run.result is None
    await line.open()
    result = await control_plane.ended(run)
    assert result.outcome == rpc.RUN_OUTCOME_STOPPED
    await runner.drained()
    assert runner.all_containers(docker_client) == []
