"""The runner as a process: its stream, its signals, its folder, its configuration."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import docker
import grpc
import pytest

from interlock.v1 import runner_service_pb2 as rpc
from tests.holding import HOLD, release
from tests.integration.runner.processes import RunnerProcess
from tests.integration.runner.scripted_servicer import ScriptedControlPlane

StartRunner = Callable[..., RunnerProcess]
MakeJob = Callable[..., rpc.Job]


async def test_hello_says_who_the_runner_is_and_its_id_stays_the_same(
    control_plane: ScriptedControlPlane, start_runner: StartRunner
) -> None:
    runner = start_runner(INTERLOCK_RUNNER_NAME="builder", INTERLOCK_RUNNER_CAPACITY="7")
    await control_plane.connected()
    runner.kill()
    runner.start()
    await control_plane.connected(times=2)
    first, second = control_plane.hellos
    assert (first.name, first.capacity, first.protocol_version) == ("builder", 7, 1)
    assert first.pool_token == "ptk_test.secret"
    assert first.boot_id
    assert first.runner_id == second.runner_id


async def test_heartbeats_come_as_often_as_the_welcome_says(
    control_plane: ScriptedControlPlane, start_runner: StartRunner
) -> None:
    control_plane.heartbeat_interval_ms = 200
    start_runner()
    await control_plane.until(lambda: control_plane.heartbeats >= 3, within_s=10)


async def test_a_refused_token_is_explained_and_not_tried_again_at_once(
    control_plane: ScriptedControlPlane, start_runner: StartRunner
) -> None:
    control_plane.refuse_hello = grpc.StatusCode.UNAUTHENTICATED
    runner = start_runner()
    await control_plane.until(lambda: control_plane.refused == 1)
    await runner.until_logged("runner.refused")
    [line] = runner.logged("runner.refused")
    assert "interlock pool token create" in str(line["hint"])
    assert control_plane.refused == 1


async def test_a_runner_waits_for_a_control_plane_that_is_not_there_yet(
    control_plane: ScriptedControlPlane, start_runner: StartRunner
) -> None:
    await control_plane.stop()
    runner = start_runner()
    await runner.until_logged("runner.disconnected")
    await control_plane.start()
    await control_plane.connected()


async def test_sigterm_finishes_what_runs_takes_nothing_new_and_ends(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job(f"echo begin; {HOLD}; echo end"))
    await control_plane.until(lambda: b"begin" in run.output)
    runner.signal(signal.SIGTERM)
    await control_plane.until(lambda: any(status.draining for status in control_plane.statuses))
    release(docker_client, run.ref.run_id)
    await control_plane.ended(run)
    assert await asyncio.to_thread(runner.wait) == 0
    assert run.text == "begin\nend\n"
    assert runner.all_containers(docker_client) == []


async def test_what_comes_after_sigterm_goes_back_to_the_queue_and_is_not_begun(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job(f"echo begin; {HOLD}"))
    await control_plane.until(lambda: b"begin" in run.output)
    runner.signal(signal.SIGTERM)
    await runner.until_logged("runner.draining")
    late = control_plane.assign(job("echo performed"), number=2)
    await control_plane.until(lambda: late.said == ["declined"])
    release(docker_client, run.ref.run_id)
    await control_plane.ended(run)
    assert await asyncio.to_thread(runner.wait) == 0
    assert (late.said, late.text) == (["declined"], "")


async def test_a_second_sigterm_leaves_at_once_and_the_run_goes_on_with_the_next_process(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job(f"echo begin; {HOLD}; echo end"))
    await control_plane.until(lambda: b"begin" in run.output)
    runner.signal(signal.SIGTERM)
    await runner.until_logged("runner.draining")
    runner.signal(signal.SIGTERM)
    await asyncio.to_thread(runner.wait)
    assert run.result is None
    runner.start()
    release(docker_client, run.ref.run_id)
    result = await control_plane.ended(run)
    assert (result.outcome, result.reason) == (rpc.RUN_OUTCOME_EXITED, "")
    assert run.text == "begin\nend\n"


async def test_a_server_that_goes_away_is_dialled_again(
    control_plane: ScriptedControlPlane, start_runner: StartRunner
) -> None:
    start_runner()
    await control_plane.connected()
    control_plane.send(rpc.ConnectResponse(drain=rpc.DrainRequest(reconnect=True, reason="an update")))
    await control_plane.connected(times=2)


async def test_a_drain_request_holds_until_the_next_welcome(
    control_plane: ScriptedControlPlane, start_runner: StartRunner
) -> None:
    start_runner()
    await control_plane.connected()
    control_plane.send(rpc.ConnectResponse(drain=rpc.DrainRequest(reason="an update")))
    await control_plane.until(lambda: any(status.draining for status in control_plane.statuses))
    control_plane.cut()
    await control_plane.connected(times=2)
    await control_plane.until(lambda: not control_plane.statuses[-1].draining)


async def test_a_copy_of_a_runners_folder_does_not_start_beside_it(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, tmp_path: Path
) -> None:
    runner = start_runner()
    await control_plane.connected()
    shutil.copytree(runner.folder, tmp_path / "copy")
    second = _run_to_its_end(
        INTERLOCK_RUNNER_DIR=str(tmp_path / "copy"), INTERLOCK_ADDRESS=control_plane.address
    )
    assert second.returncode == 2
    assert "was its folder copied" in second.stderr


async def test_two_runners_in_one_folder_are_refused_by_name(
    control_plane: ScriptedControlPlane, start_runner: StartRunner
) -> None:
    runner = start_runner()
    await control_plane.connected()
    second = _run_to_its_end(INTERLOCK_RUNNER_DIR=str(runner.folder), INTERLOCK_ADDRESS=control_plane.address)
    assert second.returncode == 2
    assert f"another runner (process {runner.pid})" in second.stderr


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"INTERLOCK_ADDRESS": ""}, "INTERLOCK_ADDRESS is not set"),
        ({"INTERLOCK_ADDRESS": "example.com"}, "needs a port"),
        ({"INTERLOCK_ADDRESS": "http://example.com:80"}, "means plaintext to another machine"),
        ({"INTERLOCK_POOL_TOKEN": ""}, "INTERLOCK_POOL_TOKEN (or INTERLOCK_POOL_TOKEN_FILE) is not set"),
        ({"INTERLOCK_POOL_TOKEN_FILE": "/no/such"}, "both set"),
        ({"INTERLOCK_RUNNER_CAPACITY": "0"}, "INTERLOCK_RUNNER_CAPACITY is '0'"),
        ({"INTERLOCK_CA_FILE": "/no/such"}, "there is no such file"),
        ({"INTERLOCK_INSECURE": "1"}, "INTERLOCK_INSECURE is '1'"),
        ({"INTERLOCK_RUNNER_DIR": "/dev/null/x"}, "set INTERLOCK_RUNNER_DIR"),
    ],
)
def test_a_wrong_configuration_names_its_variable(
    tmp_path: Path, environment: dict[str, str], message: str
) -> None:
    ended = _run_to_its_end(**{"INTERLOCK_RUNNER_DIR": str(tmp_path)} | environment)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def _run_to_its_end(**environment: str) -> subprocess.CompletedProcess[str]:
    defaults = {"INTERLOCK_ADDRESS": "127.0.0.1:1", "INTERLOCK_POOL_TOKEN": "ptk_test.secret"}
    return subprocess.run(
        [sys.executable, "-m", "runner"],
        env={**os.environ, **defaults, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
