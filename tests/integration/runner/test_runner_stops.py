"""What ends a run before its gate, and what does not end it behind the gate."""

from collections.abc import Callable

import docker
import pytest
from google.protobuf.duration_pb2 import Duration

from interlock.v1 import pool_pb2, stack_pb2
from interlock.v1 import runner_service_pb2 as rpc
from tests.holding import HOLD, containers_of, release
from tests.integration.runner.processes import RunnerProcess
from tests.integration.runner.scripted_servicer import Assigned, ScriptedControlPlane

StartRunner = Callable[..., RunnerProcess]
MakeJob = Callable[..., rpc.Job]


async def test_a_run_stopped_in_init_ends_at_once_and_its_container_goes(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job("echo performed", custom_init=["echo init", "sleep 600"]))
    await control_plane.until(lambda: b"init" in run.output)
    _stop(control_plane, run)
    result = await control_plane.ended(run)
    assert result.outcome == rpc.RUN_OUTCOME_STOPPED
    assert "a caller asked" in result.reason
    assert run.text.startswith("init\n")
    assert "performed" not in run.text
    await _left_nothing(runner, docker_client)


async def test_a_run_stopped_while_its_container_is_made_performs_nothing(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job("echo performed"))
    await control_plane.until(lambda: "accepted" in run.said)
    _stop(control_plane, run)
    result = await control_plane.ended(run)
    assert result.outcome == rpc.RUN_OUTCOME_STOPPED
    assert run.text == ""
    await _left_nothing(runner, docker_client)


async def test_a_refused_gate_ends_the_run_as_stopped_after_its_last_hooks(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    control_plane.answer_gates = False
    start_runner()
    await control_plane.connected()
    hooks = stack_pb2.Hooks(after_run=["echo state is $INTERLOCK_RUN_STATE"])
    run = control_plane.assign(job("echo performed", hooks=hooks))
    await control_plane.until(lambda: "gate" in run.said)
    answer = rpc.GateAnswer(assignment=run.ref, go=False, reason="a caller asked")
    control_plane.send(rpc.ConnectResponse(gate=answer))
    result = await control_plane.ended(run)
    assert result.outcome == rpc.RUN_OUTCOME_STOPPED
    assert run.text.endswith("state is STOPPED\n")
    assert "performed" not in run.text


async def test_a_stop_behind_the_gate_changes_nothing(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job(f"echo begin; {HOLD}; echo end"))
    await control_plane.until(lambda: b"begin" in run.output)
    _stop(control_plane, run)
    await runner.until_logged("run.goes_on")
    release(docker_client, run.ref.run_id)
    result = await control_plane.ended(run)
    assert (result.outcome, result.exit_code) == (rpc.RUN_OUTCOME_EXITED, 0)
    assert run.text == "begin\nend\n"


async def test_init_that_writes_nothing_for_too_long_is_timed_out(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    start_runner()
    await control_plane.connected()
    options = pool_pb2.ContainerOptions(no_output_timeout=Duration(seconds=1))
    run = control_plane.assign(job("echo performed", custom_init=["sleep 600"], container=options))
    result = await control_plane.ended(run)
    assert result.outcome == rpc.RUN_OUTCOME_TIMED_OUT
    assert "nothing was written for 1 s" in result.reason


async def test_init_that_takes_too_long_is_timed_out_though_it_writes(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    start_runner()
    await control_plane.connected()
    options = pool_pb2.ContainerOptions(total_timeout=Duration(seconds=5))
    init = "while :; do echo on; sleep 0.2; done"
    run = control_plane.assign(job("echo performed", custom_init=[init], container=options))
    result = await control_plane.ended(run)
    assert result.outcome == rpc.RUN_OUTCOME_TIMED_OUT
    assert "longer than 5 s" in result.reason
    assert run.text.startswith("on\n")


async def test_time_outs_end_nothing_at_the_gate_and_behind_it(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    control_plane.answer_gates = False
    start_runner()
    await control_plane.connected()
    options = pool_pb2.ContainerOptions(
        total_timeout=Duration(seconds=2), no_output_timeout=Duration(seconds=1)
    )
    run = control_plane.assign(job("sleep 3; echo performed", container=options))
    other = control_plane.assign(job("true", custom_init=["sleep 600"], container=options), number=2)
    await control_plane.until(lambda: "gate" in run.said)
    await control_plane.ended(other)
    control_plane.open_gate(run)
    result = await control_plane.ended(run)
    assert (result.outcome, result.exit_code) == (rpc.RUN_OUTCOME_EXITED, 0)
    assert run.text == "performed\n"


async def test_init_that_fails_ends_the_run_with_its_exit_code_and_no_gate(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    start_runner()
    await control_plane.connected()
    run = control_plane.assign(job("echo performed", custom_init=["echo broken; exit 7"]))
    result = await control_plane.ended(run)
    assert (result.outcome, result.exit_code) == (rpc.RUN_OUTCOME_INITIALIZATION_FAILED, 7)
    assert run.text == "broken\n"
    assert "gate" not in run.said


async def test_an_image_that_is_not_there_fails_the_preparation_with_what_to_do(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    start_runner()
    await control_plane.connected()
    run = control_plane.assign(job("true", image="no.such/image:1"))
    result = await control_plane.ended(run)
    assert result.outcome == rpc.RUN_OUTCOME_PREPARATION_FAILED
    assert "no.such/image:1" in result.reason


@pytest.mark.parametrize("is_restarted", [False, True], ids=["at once", "after a restart of the runner"])
async def test_a_performing_command_that_is_released_is_not_cut_off(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
    is_restarted: bool,
) -> None:
    """Invariant 3: a control plane that was restored from an older backup knows nothing of it."""
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job(f"echo begin; {HOLD}"))
    await control_plane.until(lambda: b"begin" in run.output)
    if is_restarted:
        runner.kill()
        del control_plane.assigned[run.ref.assignment_id]
        runner.start()
        await control_plane.connected(times=2)
    else:
        rejected = rpc.Rejected(assignment=run.ref, reason="FENCED_OUT", message="unknown", release=True)
        control_plane.send(rpc.ConnectResponse(rejected=rejected))
        await runner.until_logged("run.released")
    [container] = containers_of(docker_client, run.ref.run_id)
    assert container.status == "running"
    release(docker_client, run.ref.run_id)
    await _left_nothing(runner, docker_client)
    assert run.result is None


def _stop(control_plane: ScriptedControlPlane, run: Assigned) -> None:
    control_plane.send(rpc.ConnectResponse(stop=rpc.StopRequest(assignment=run.ref, reason="a caller asked")))


async def _left_nothing(runner: RunnerProcess, docker_client: docker.DockerClient) -> None:
    await runner.drained()
    assert runner.all_containers(docker_client) == []
    assert list((runner.folder / "assignments").iterdir()) == []
