"""The warm pool on the real engine: a container for one run each, and never a run that suffers for it."""

import asyncio
import json
import threading
from collections.abc import Callable

import docker
import pytest
from docker.models.containers import Container

from interlock.v1 import runner_service_pb2 as rpc
from interlock.v1 import stack_pb2
from runner import labels
from tests.integration.runner.processes import RunnerProcess
from tests.integration.runner.scripted_servicer import Assigned, ScriptedControlPlane

StartRunner = Callable[..., RunnerProcess]
MakeJob = Callable[..., rpc.Job]

SECRET = [rpc.Job().variables.add(name="TOKEN", value="s3cr3t-token-value", secret=True)]
# Binary noise with lines around the engine's limit of 16 KiB.
NOISY = """\
head -c 100000 /dev/urandom | tee /tmp/noise
printf 'HALF'
sleep 1
base64 -w 20000 </tmp/noise
cat /tmp/noise
"""


async def warmed(runner: RunnerProcess, client: docker.DockerClient, count: int) -> list[Container]:
    """The containers that wait, once there are so many and all are ready."""
    async with asyncio.timeout(30):
        while True:
            waiting = await asyncio.to_thread(runner.warm, client)
            ready = {line["container"] for line in runner.logged("warm.started")}
            if len(waiting) == count and {each.id for each in waiting} <= ready:
                return waiting
            await asyncio.sleep(0.05)  # the engine's list tells nobody that it changed


async def warm_runner(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: rpc.Job,
    client: docker.DockerClient,
    count: int = 1,
) -> RunnerProcess:
    """A runner that has had one run, numbered 100, and has warm containers for the next of its kind."""
    runner = start_runner(INTERLOCK_RUNNER_WARM=str(count))
    await control_plane.connected()
    await control_plane.ended(control_plane.assign(job, 100))
    await warmed(runner, client, count)
    return runner


async def container_of(client: docker.DockerClient, run: Assigned) -> Container:
    name = labels.name_of_run(run.ref.run_id, run.ref.fencing_token)
    return await asyncio.to_thread(client.containers.get, name)


async def test_each_run_gets_a_warm_container_of_its_own_that_is_removed_and_replaced(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = await warm_runner(control_plane, start_runner, job("true"), docker_client)
    used = []
    for number in (1, 2):
        [waiting] = await warmed(runner, docker_client, 1)
        run = control_plane.assign(job("ls -A . $HOME; touch left; echo HALF; sleep 0.5"), number)
        await control_plane.until(lambda run=run: b"HALF" in run.output)  # type: ignore[misc]
        container = await container_of(docker_client, run)
        assert container.id == waiting.id
        used.append(container.id)
        assert (await control_plane.ended(run)).exit_code == 0
        assert "left" not in run.text
    [waiting] = await warmed(runner, docker_client, 1)
    assert len({*used, waiting.id}) == 3
    await runner.drained()
    assert runner.all_containers(docker_client) == []


async def test_a_warm_container_is_limited_like_any_and_shows_nothing_of_its_run(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    plain = job("true")
    plain.container.memory_bytes, plain.container.network_mode = 64 << 20, "none"
    await warm_runner(control_plane, start_runner, plain, docker_client)
    secret = job("echo $TOKEN; echo HALF; sleep 1", variables=SECRET)
    secret.container.CopyFrom(plain.container)
    run = control_plane.assign(secret)
    await control_plane.until(lambda: b"HALF" in run.output)
    container = await container_of(docker_client, run)
    assert "dev.interlock.warm" in container.labels
    shown = json.dumps(container.attrs)
    assert "s3cr3t" not in shown
    assert container.attrs["Config"]["User"] == "1983:1983"
    host = container.attrs["HostConfig"]
    assert (host["Memory"], host["NetworkMode"], host["CapDrop"]) == (64 << 20, "none", ["ALL"])
    await control_plane.ended(run)
    assert run.text == "***\nHALF\n"


async def test_a_job_with_other_limits_gets_no_warm_container_of_these(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    await warm_runner(control_plane, start_runner, job("true"), docker_client)
    other = job("echo HALF; sleep 0.5")
    other.container.pids = 99
    run = control_plane.assign(other)
    await control_plane.until(lambda: b"HALF" in run.output)
    container = await container_of(docker_client, run)
    assert "dev.interlock.warm" not in container.labels
    assert container.attrs["HostConfig"]["PidsLimit"] == 99
    await control_plane.ended(run)


async def test_files_are_mounted_into_a_warm_container(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    await warm_runner(control_plane, start_runner, job("true"), docker_client)
    files = [rpc.Job().files.add(path="source/x.txt", content=b"mounted")]
    run = control_plane.assign(job("cat x.txt", files=files))
    await control_plane.ended(run)
    assert run.text == "mounted"


async def test_a_warm_container_that_was_killed_or_removed_is_never_a_runs(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = await warm_runner(control_plane, start_runner, job("true"), docker_client, count=2)
    killed, removed = await warmed(runner, docker_client, 2)
    killed.kill()
    removed.remove(force=True)
    runs = [control_plane.assign(job("echo fine"), number) for number in (1, 2, 3)]
    for run in runs:
        assert (await control_plane.ended(run)).exit_code == 0
        assert run.text == "fine\n"
    fresh = await warmed(runner, docker_client, 2)
    assert not {killed.id, removed.id} & {each.id for each in fresh}


async def test_a_warm_container_of_what_the_images_name_meant_before_is_not_used_and_goes(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
    test_image: str,
) -> None:
    repository, tag = "interlock-test-warm", "moving"
    name = f"{repository}:{tag}"
    docker_client.images.get(test_image).tag(repository, tag)
    try:
        runner = await warm_runner(control_plane, start_runner, job("true", image=name), docker_client)
        [old] = await warmed(runner, docker_client, 1)
        changed = docker_client.containers.create(test_image, ["true"])
        changed.commit(repository, tag, changes="ENV IMAGE=new")
        changed.remove()
        run = control_plane.assign(job("echo $IMAGE", image=name))
        await control_plane.ended(run)
        assert run.text == "new\n"
        async with asyncio.timeout(30):
            while [each.id for each in await warmed(runner, docker_client, 1)] == [old.id]:
                await asyncio.sleep(0.05)
        await runner.drained()
    finally:
        docker_client.images.remove(name, force=True)


async def test_a_runner_killed_while_a_formerly_warm_container_performs_loses_no_byte(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = await warm_runner(control_plane, start_runner, job("true"), docker_client)
    [waiting] = await warmed(runner, docker_client, 1)
    run = control_plane.assign(job(NOISY))
    await control_plane.until(lambda: b"HALF" in run.output)
    assert (await container_of(docker_client, run)).id == waiting.id
    runner.kill()
    runner.start()
    result = await control_plane.ended(run)
    assert (result.outcome, result.exit_code) == (rpc.RUN_OUTCOME_EXITED, 0)
    assert control_plane.hellos[1].held[0].container_present
    noise = bytes(run.output[:100_000])
    assert run.output[100_000:].startswith(b"HALF")
    assert run.output.endswith(noise)
    await runner.drained()
    assert runner.all_containers(docker_client) == []


async def test_what_waits_when_the_runner_is_killed_is_swept_by_the_next(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = await warm_runner(control_plane, start_runner, job("true"), docker_client, count=2)
    runner.kill()
    assert len(runner.warm(docker_client)) == 2
    runner.start()
    await control_plane.connected(times=2)
    assert runner.all_containers(docker_client) == []


async def test_a_pool_that_is_switched_off_keeps_nothing(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = start_runner(INTERLOCK_RUNNER_WARM="0")
    await control_plane.connected()
    for number in (1, 2):
        await control_plane.ended(control_plane.assign(job("true"), number))
    await runner.drained()
    assert not runner.logged("warm.started")
    assert runner.all_containers(docker_client) == []


async def test_an_image_without_a_shell_is_not_warmed_for_ever(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
    shellless_image: str,
) -> None:
    runner = start_runner(INTERLOCK_RUNNER_WARM="1")
    await control_plane.connected()
    await control_plane.ended(control_plane.assign(job("true", image=shellless_image), 1))
    await runner.until_logged("warm.died")
    await control_plane.ended(control_plane.assign(job("true"), 2))
    await warmed(runner, docker_client, 1)
    assert len(runner.logged("warm.died")) == 1


async def test_pull_policies_do_not_matter_to_what_waits(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
) -> None:
    runner = await warm_runner(control_plane, start_runner, job("true"), docker_client)
    [waiting] = await warmed(runner, docker_client, 1)
    other = job("echo HALF; sleep 0.5", pull_policy=stack_pb2.PULL_POLICY_IF_NOT_PRESENT)
    run = control_plane.assign(other)
    await control_plane.until(lambda: b"HALF" in run.output)
    assert (await container_of(docker_client, run)).id == waiting.id
    await control_plane.ended(run)


def _renamed(client: docker.DockerClient, name: str) -> threading.Thread:
    """Joined when the engine has given a container this name."""
    events = client.events(decode=True, filters={"type": "container", "event": "rename"})

    def listen() -> None:
        for event in events:
            if event["Actor"]["Attributes"]["name"] == name:
                break
        events.close()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    return listener


@pytest.mark.parametrize("moment", ["assigned", "renamed", "at its gate"])
async def test_a_runner_killed_around_the_taking_performs_at_most_once_and_leaves_nothing(
    control_plane: ScriptedControlPlane,
    start_runner: StartRunner,
    job: MakeJob,
    docker_client: docker.DockerClient,
    moment: str,
) -> None:
    runner = await warm_runner(control_plane, start_runner, job("true"), docker_client)
    control_plane.answer_gates = False
    renamed = _renamed(docker_client, labels.name_of_run("run_1", 1))
    run = control_plane.assign(job("echo performed"))
    match moment:
        case "assigned":
            await control_plane.until(lambda: bool(run.said))
        case "renamed":
            await asyncio.to_thread(renamed.join, 30)
        case _:
            await control_plane.until(lambda: "gate" in run.said)
    runner.kill()
    control_plane.answer_gates = True
    runner.start()
    result = await control_plane.ended(run)
    if moment == "at its gate":
        assert (result.outcome, run.text) == (rpc.RUN_OUTCOME_EXITED, "performed\n")
    assert run.text in {"", "performed\n"}
    assert (result.outcome == rpc.RUN_OUTCOME_EXITED) == (run.text != "")
    await runner.drained()
    assert runner.all_containers(docker_client) == []
    assert list((runner.folder / "assignments").iterdir()) == []
