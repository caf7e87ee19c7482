"""Runs of a real runner process on the real engine."""

from collections.abc import Callable

import docker

from interlock.v1 import runner_service_pb2 as rpc
from tests.integration.runner.processes import RunnerProcess
from tests.integration.runner.scripted_servicer import ScriptedControlPlane

StartRunner = Callable[..., RunnerProcess]
MakeJob = Callable[..., rpc.Job]


async def test_a_run_goes_through_its_phases_and_its_output_and_result_arrive(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job("echo hello; echo err >&2; exit 3", custom_init=["echo init"]))
    result = await control_plane.ended(run)
    assert run.text == "init\nhello\nerr\n"
    assert result.outcome == rpc.RUN_OUTCOME_EXITED
    assert result.exit_code == 3
    assert run.said == ["accepted", "RUN_STATE_INITIALIZING", "gate", "result"]
    assert runner.logged("runner.ready")
