"""Invariants 4 and 5: output is masked, exact, and waits where there is no room for it."""

import asyncio
import base64
import hashlib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import docker
import pytest

from interlock.v1 import run_pb2, stack_pb2
from interlock.v1 import runner_service_pb2 as rpc
from tests.holding import HOLD, release
from tests.integration.runner.processes import RunnerProcess
from tests.integration.runner.scripted_servicer import ScriptedControlPlane

StartRunner = Callable[..., RunnerProcess]
MakeJob = Callable[..., rpc.Job]

SECRET = "correct-horse-battery"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_secrets_of_every_kind_are_masked_in_every_phase(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    start_runner()
    await control_plane.connected()
    run = control_plane.assign(
        job(
            f"echo $WORD; echo $WORD | base64; cat ../cloud.key; echo '::add-mask::later-on'; echo later-on {SECRET}",
            custom_init=["echo init $WORD"],
            hooks=stack_pb2.Hooks(after_run=["echo after $WORD"]),
            variables=[
                stack_pb2.EnvironmentVariable(name="WORD", value=SECRET, secret=True),
                stack_pb2.EnvironmentVariable(name="PLAIN", value="plain"),
            ],
            files=[
                stack_pb2.MountedFile(path="cloud.key", content=b"first-line\nsecond-line\n", secret=True)
            ],
        )
    )
    await control_plane.ended(run)
    for secret in (
        SECRET,
        "first-line",
        "second-line",
        "later-on",
        base64.b64encode(SECRET.encode()).decode()[:-4],
    ):
        assert secret not in run.text
    assert run.text.startswith("init ***\n***\n")
    assert run.text.endswith("*** ***\nafter ***\n")


async def test_a_secret_too_short_to_mask_is_refused_before_anything_runs(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    start_runner()
    await control_plane.connected()
    short = stack_pb2.EnvironmentVariable(name="PIN", value="123", secret=True)
    run = control_plane.assign(job("echo $PIN", variables=[short]))
    result = await control_plane.ended(run)
    assert result.outcome == rpc.RUN_OUTCOME_PREPARATION_FAILED
    assert "PIN" in result.reason
    assert "123" not in result.reason


async def test_a_command_knows_its_run(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    start_runner()
    await control_plane.connected()
    run = control_plane.assign(job("env | grep ^INTERLOCK_ | sort", run_type=run_pb2.RUN_TYPE_TASK))
    await control_plane.ended(run)
    assert {
        "INTERLOCK_CREATOR=ada",
        f"INTERLOCK_RUN_ID={run.ref.run_id}",
        "INTERLOCK_RUN_TYPE=task",
        "INTERLOCK_STACK_ID=network",
        "INTERLOCK_STACK_NAME=Network",
    } <= set(run.text.splitlines())


async def test_thirty_megabytes_arrive_byte_for_byte(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    start_runner()
    await control_plane.connected()
    run = control_plane.assign(
        job("head -c 30000000 /dev/urandom > /tmp/noise; cat /tmp/noise; sha256sum < /tmp/noise")
    )
    await control_plane.ended(run)
    assert run.output[30_000_000:].split()[0].decode() == hashlib.sha256(run.output[:30_000_000]).hexdigest()


async def test_a_line_after_a_pause_is_sent_at_once(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    start_runner()
    await control_plane.connected()
    run = control_plane.assign(job("echo first; sleep 600"))
    await control_plane.until(lambda: bytes(run.output) == b"first\n")
    assert run.result is None


@pytest.mark.parametrize("limit", ["disk", "configured"])
async def test_a_full_spool_holds_the_command_back_and_loses_nothing(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob, small_disk: Path, limit: str
) -> None:
    control_plane.acknowledge = False
    environment = {"INTERLOCK_RUNNER_MAX_SPOOL_MIB": "1"} if limit == "configured" else {}
    runner = start_runner(small_disk / "runner", **environment)
    await control_plane.connected()
    run = control_plane.assign(job("head -c 20000000 /dev/urandom | tee /tmp/noise; sha256sum < /tmp/noise"))
    said = (
        "waits for the control plane" if limit == "configured" else "no room for output on the runner's disk"
    )
    await control_plane.until(lambda: any(said in status.reason for status in control_plane.statuses))
    [held] = runner.logged("run.held_back")
    assert held["disk_full"] == (limit == "disk")
    assert run.result is None
    control_plane.acknowledge = True
    control_plane.acknowledge_output(run)
    result = await control_plane.ended(run)
    assert result.exit_code == 0
    assert run.output[20_000_000:].split()[0].decode() == hashlib.sha256(run.output[:20_000_000]).hexdigest()
    await control_plane.until(lambda: not control_plane.statuses[-1].draining)


async def test_output_that_the_control_plane_had_no_room_for_is_sent_again(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    start_runner()
    await control_plane.connected()
    control_plane.refuse_output = True
    run = control_plane.assign(job(f"echo one; {HOLD}; echo two"))
    await control_plane.until(lambda: "refused" in run.said)
    assert run.text == ""
    control_plane.refuse_output = False
    release(docker_client, run.ref.run_id)
    result = await control_plane.ended(run)
    assert result.exit_code == 0
    assert run.text == "one\ntwo\n"


async def test_four_runs_at_once_keep_their_outputs_apart(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob
) -> None:
    start_runner()
    await control_plane.connected()
    runs = [
        control_plane.assign(job(f"for i in 1 2 3 4 5 6 7 8 9; do echo run {n} $i; done"), number=n)
        for n in range(1, 5)
    ]
    await asyncio.gather(*map(control_plane.ended, runs))
    for number, run in enumerate(runs, start=1):
        assert run.text == "".join(f"run {number} {i}\n" for i in range(1, 10))


async def test_nothing_is_performed_before_the_open_gate_is_in_the_journal(
    control_plane: ScriptedControlPlane, start_runner: StartRunner, job: MakeJob, small_disk: Path
) -> None:
    """Invariant 2: a command is performed at most once, so that it may have begun must be on the disk first."""
    control_plane.answer_gates = False
    runner = start_runner(small_disk / "runner")
    await control_plane.connected()
    run = control_plane.assign(job("echo performed"))
    await control_plane.until(lambda: "gate" in run.said)
    filler = small_disk / "filler"
    _fill(filler)
    control_plane.open_gate(run)
    await runner.until_logged("journal.unwritable")
    assert run.result is None
    assert run.text == ""
    filler.unlink()
    await control_plane.ended(run)
    assert run.text == "performed\n"


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
