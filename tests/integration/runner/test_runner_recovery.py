"""Invariants 2 and 4: what becomes of runs when the runner, its stream or its container is killed."""

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path

import docker

from interlock.v1 import runner_service_pb2 as rpc
from tests.holding import HOLD, containers_of, release
from tests.integration.runner.processes import RunnerProcess
from tests.integration.runner.scripted_servicer import ScriptedControlPlane

StartRunner = Callable[..., RunnerProcess]
MakeJob = Callable[..., rpc.Job]

# Binary, with lines around the engine's limit of 16 KiB, and a secret in the middle; a marker says when it is half done.
NOISY = f"""\
i=0; while [ $i -lt 300 ]; do echo "line $i $TOKEN"; i=$((i+1)); done
head -c 100000 /dev/urandom | tee /tmp/noise
printf 'HALF'
{HOLD}
cat /tmp/noise | base64 -w 20000
echo done
"""
SECRET = [rpc.Job().variables.add(name="TOKEN", value="s3cr3t-token-value", secret=True)]


async def test_a_killed_runner_finds_its_performing_run_again_and_no_byte_is_lost_or_twice(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job(NOISY, variables=SECRET))
    await control_plane.until(lambda: b"HALF" in run.output)
    runner.kill()
    received = len(run.output)
    runner.start()
    release(docker_client, run.ref.run_id)
    result = await control_plane.ended(run)
    assert (result.outcome, result.exit_code) == (rpc.RUN_OUTCOME_EXITED, 0)
    assert len(run.output) > received
    assert b"s3cr3t" not in run.output
    _assert_log_agrees(bytes(run.output))
    [held] = control_plane.hellos[1].held
    assert held.container_present
    assert held.assignment == run.ref


async def test_a_runner_killed_at_the_gate_asks_again_and_performs_once(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    control_plane.answer_gates = False
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job("echo performed", custom_init=["echo init"]))
    await control_plane.until(lambda: "gate" in run.said)
    runner.kill()
    control_plane.answer_gates = True
    runner.start()
    result = await control_plane.ended(run)
    assert result.outcome == rpc.RUN_OUTCOME_EXITED
    assert run.text == "init\nperformed\n"


async def test_a_gate_answer_lost_with_the_stream_is_asked_for_again(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    control_plane.answer_gates = False
    start_runner()
    await control_plane.connected()
    run = control_plane.assign(job("echo performed"))
    await control_plane.until(lambda: "gate" in run.said)
    control_plane.answer_gates = True
    control_plane.cut()
    await control_plane.connected(times=2)
    await control_plane.ended(run)
    assert run.said.count("gate") == 2
    assert run.text == "performed\n"


async def test_output_goes_on_after_the_control_plane_was_away_for_the_whole_command(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    start_runner()
    await control_plane.connected()
    run = control_plane.assign(
        job(f"printf HALF; {HOLD}; i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done")
    )
    await control_plane.until(lambda: b"HALF" in run.output)
    await control_plane.stop()
    release(docker_client, run.ref.run_id)
    [container] = containers_of(docker_client, run.ref.run_id)
    await asyncio.to_thread(container.wait)
    await control_plane.start()
    result = await control_plane.ended(run)
    assert result.exit_code == 0
    assert run.text == "HALF" + "".join(f"{number}\n" for number in range(20000))


async def test_a_run_that_ended_while_its_runner_was_dead_is_reported_with_all_its_output(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job(f"printf HALF; {HOLD}; echo whole; exit 5"))
    await control_plane.until(lambda: b"HALF" in run.output)
    [container] = runner.containers(docker_client)
    runner.kill()
    release(docker_client, run.ref.run_id)
    container.wait()
    runner.start()
    result = await control_plane.ended(run)
    assert (result.outcome, result.exit_code) == (rpc.RUN_OUTCOME_EXITED, 5)
    assert run.text == "HALFwhole\n"


async def test_a_container_that_was_removed_while_its_runner_was_dead_is_a_lost_run(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job(f"printf HALF; {HOLD}"))
    await control_plane.until(lambda: b"HALF" in run.output)
    runner.kill()
    for container in runner.containers(docker_client):
        container.remove(force=True)
    runner.start()
    result = await control_plane.ended(run)
    assert result.outcome == rpc.RUN_OUTCOME_CONTAINER_LOST
    assert not result.HasField("exit_code")
    assert not control_plane.hellos[1].held[0].container_present


async def test_a_container_killed_while_it_performs_is_a_lost_run(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job(f"printf HALF; {HOLD}"))
    await control_plane.until(lambda: b"HALF" in run.output)
    [container] = runner.containers(docker_client)
    container.kill()
    result = await control_plane.ended(run)
    assert result.outcome == rpc.RUN_OUTCOME_CONTAINER_LOST
    assert "signal 9" in result.reason


async def test_a_replay_that_differs_sends_no_wrong_byte_and_says_so(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job(f"printf HALF; {HOLD}; echo more"))
    await control_plane.until(lambda: b"HALF" in run.output)
    runner.kill()
    run.output[:] = b"FULL"
    runner.start()
    release(docker_client, run.ref.run_id)
    result = await control_plane.ended(run)
    assert run.output == b"FULL"
    assert (result.outcome, result.exit_code) == (rpc.RUN_OUTCOME_EXITED, 0)
    assert "behind byte 4 could not be recovered" in result.reason


async def test_a_damaged_journal_is_set_aside_and_its_container_lives_on(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job(f"printf HALF; {HOLD}"))
    await control_plane.until(lambda: b"HALF" in run.output)
    runner.kill()
    _journal(runner, run.ref).write_text('{"half a')
    runner.start()
    await control_plane.connected(times=2)
    assert not control_plane.hellos[1].held
    assert runner.logged("journal.damaged")
    [container] = runner.containers(docker_client)
    assert container.status == "running"


async def test_a_journal_that_was_edited_is_set_aside_and_says_what_to_do(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job(f"printf HALF; {HOLD}"))
    await control_plane.until(lambda: b"HALF" in run.output)
    runner.kill()
    text = _journal(runner, run.ref).read_text()
    _journal(runner, run.ref).write_text(text.replace("gate_passed", "started"))
    runner.start()
    await control_plane.connected(times=2)
    assert not control_plane.hellos[1].held
    [damaged] = runner.logged("journal.damaged")
    assert "checksum" in str(damaged["error"])
    assert "by hand" in str(damaged["hint"])


async def test_an_upgrade_of_the_runner_in_the_middle_of_a_run_is_a_restart_like_any_other(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    """The release before wrote journals of format 1."""
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job(f"printf HALF; {HOLD}; printf WHOLE"))
    await control_plane.until(lambda: b"HALF" in run.output)
    runner.kill()
    fields = json.loads(_journal(runner, run.ref).read_text())
    for newer in ("sha256", "engine_id", "preamble_sha256"):
        del fields[newer]
    _journal(runner, run.ref).write_text(json.dumps({**fields, "format": 1}))
    runner.start()
    release(docker_client, run.ref.run_id)
    assert (await control_plane.ended(run)).exit_code == 0
    assert run.text == "HALFWHOLE"


async def test_a_run_in_another_engine_keeps_its_runner_from_starting(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    """Invariant 3: as in a copy of the folder on another machine, where its container is not to be found."""
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(job(f"printf HALF; {HOLD}"))
    await control_plane.until(lambda: b"HALF" in run.output)
    runner.kill()
    fields = json.loads(_journal(runner, run.ref).read_text())
    for newer in ("sha256", "preamble_sha256"):
        del fields[newer]
    _journal(runner, run.ref).write_text(json.dumps({**fields, "engine_id": "elsewhere", "format": 1}))
    runner.start()
    assert await asyncio.to_thread(runner.wait) == 2
    assert f"holds run {run.ref.run_id}" in runner.text()
    assert run.result is None


async def test_a_spool_in_which_a_bit_was_flipped_is_read_again_from_the_engine(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = start_runner()
    await control_plane.connected()
    run = control_plane.assign(
        job(f"printf HALF; {HOLD}; i=0; while [ $i -lt 9999 ]; do echo $i; i=$((i+1)); done")
    )
    await control_plane.until(lambda: b"HALF" in run.output)
    await control_plane.stop()
    release(docker_client, run.ref.run_id)
    await runner.until_logged("run.ended")
    [file] = (_journal(runner, run.ref).parent / "spool").iterdir()
    content = bytearray(file.read_bytes())
    content[-1000] ^= 4
    file.write_bytes(content)
    await control_plane.start()
    assert await asyncio.to_thread(runner.wait) == 1
    assert f"the spool file {file} was changed" in runner.text()
    runner.start()
    await control_plane.ended(run)
    assert run.text == "HALF" + "".join(f"{number}\n" for number in range(9999))


def _journal(runner: RunnerProcess, ref: rpc.AssignmentRef) -> Path:
    return runner.folder / "assignments" / ref.assignment_id / "journal.json"


def _assert_log_agrees(output: bytes) -> None:
    """The command wrote the same noise raw and in base64."""
    head, _, rest = output.partition(b"HALF")
    lines = b"".join(b"line %d ***\n" % number for number in range(300))
    assert head.startswith(lines)
    encoded = rest.removesuffix(b"done\n").replace(b"\n", b"")
    assert base64.b64decode(encoded) == head[len(lines) :]
