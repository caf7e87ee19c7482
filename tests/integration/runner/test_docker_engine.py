"""The engine interface on a real Docker Engine, with whole runs through it."""

import asyncio
import hashlib
import json
from pathlib import Path

import docker
import pytest

from runner.docker_engine import DockerEngine
from runner.engine import ContainerExit, ContainerId, ContainerSpec, ContainerState, Limits
from runner.errors import (
    ContainerGone,
    EngineUnavailable,
    ImageUnavailable,
    MountRefused,
    StreamCut,
)
from runner.phases import GateReached, Phase, PhaseBegan, PhaseEnded
from runner.script import Hooks, RunScript, gate_line
from runner.secret import Secret
from tests.integration.runner.containers import drain, perform, started


async def test_a_whole_run_goes_through_its_phases(docker_engine: DockerEngine, test_image: str) -> None:
    script = RunScript(
        command='echo "$GREETING from $PWD"; id -u; exit 3',
        init=("echo init; export GREETING=hello",),
        hooks=Hooks(after_run=("echo $INTERLOCK_RUN_STATE",)),
    )
    done = await perform(docker_engine, test_image, script)
    assert done.output == b"init\nhello from /mnt/workspace/source\n1983\nFAILED\n"
    assert done.exit == ContainerExit(3)
    assert [event for event in done.events if isinstance(event, PhaseEnded)] == [
        PhaseEnded(Phase.INITIALIZING, 0),
        PhaseEnded(Phase.PERFORMING, 3),
        PhaseEnded(Phase.FINISHING, 0),
    ]


async def test_the_command_waits_for_the_gate(docker_engine: DockerEngine, test_image: str) -> None:
    async with started(docker_engine, test_image) as running:
        await running.feed(RunScript(command="echo performed", init=("echo init",)))
        before = await running.until(b":gate\n")
        assert running.split(before)[0] == b"init\n"
        await running.go()
        await running.go()
        raw, container_exit = await running.rest()
    assert (running.split(raw)[0], container_exit) == (b"performed\n", ContainerExit(0))


async def test_a_wrong_token_refuses_the_gate(docker_engine: DockerEngine, test_image: str) -> None:
    async with started(docker_engine, test_image) as running:
        await running.feed(RunScript(command="echo performed"))
        await running.input.feed(gate_line("guess"))
        raw, container_exit = await running.rest()
    output, events = running.split(raw)
    assert (output, container_exit) == (b"", ContainerExit(125))
    assert events[-1] == GateReached()


async def test_the_container_s_config_shows_nothing_of_the_run(
    docker_engine: DockerEngine, docker_client: docker.DockerClient, test_image: str
) -> None:
    async with started(docker_engine, test_image) as running:
        await running.feed(
            RunScript(
                command="echo swordfish-command; sleep 1000",
                hooks=Hooks(before_init=("echo swordfish-hook",)),
                variables={"PLAIN": "swordfish-plain"},
                secrets={"PASSWORD": Secret("swordfish-secret")},
            )
        )
        await running.until(b":gate\n")
        inspected = json.dumps(docker_client.api.inspect_container(running.id))
        listed = json.dumps(docker_client.api.containers(all=True))
        processes = json.dumps(docker_client.api.top(running.id))
        for secret in ("swordfish", running.gate_token, running.nonce):
            assert secret not in inspected + listed + processes


async def test_the_container_is_confined(
    docker_engine: DockerEngine, docker_client: docker.DockerClient, test_image: str
) -> None:
    limits = Limits(memory_bytes=64 << 20, cpu_millis=500, pids=50)
    async with started(docker_engine, test_image, limits=limits) as running:
        host = docker_client.api.inspect_container(running.id)["HostConfig"]
        assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (
            64 << 20, 64 << 20, 500_000_000, 50,
        )  # fmt: skip
        await running.feed(RunScript(command="grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status"))
        await running.go()
        output = running.split((await running.rest())[0])[0].decode().split()
    assert output == ["CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1"]


async def test_home_scratch_and_workspace_can_be_written(
    docker_engine: DockerEngine, test_image: str
) -> None:
    script = RunScript(command='touch "$HOME/a" "${TMPDIR:-/tmp}/b" c ../d && echo $NO_COLOR')
    assert (await perform(docker_engine, test_image, script)).output == b"1\n"


async def test_an_init_can_be_stopped_quickly_and_after_run_still_runs(
    docker_engine: DockerEngine, test_image: str
) -> None:
    script = RunScript(
        command="echo performed",
        init=("echo on; sleep 1000",),
        hooks=Hooks(after_run=("echo $INTERLOCK_RUN_STATE",)),
    )
    async with started(docker_engine, test_image) as running:
        await running.feed(script)
        await running.until(b"on\n")
        began = asyncio.get_running_loop().time()
        await docker_engine.stop(running.id, grace_s=10)
        raw, container_exit = await running.rest()
        assert asyncio.get_running_loop().time() - began < 3
    assert running.split(raw)[0].endswith(b"STOPPED\n")
    assert container_exit.exit_code != 0


@pytest.mark.parametrize("fed", [False, True], ids=["before its script", "at the gate"])
async def test_a_waiting_container_stops_quickly(
    docker_engine: DockerEngine, test_image: str, fed: bool
) -> None:
    async with started(docker_engine, test_image) as running:
        if fed:
            await running.feed(RunScript(command="echo performed"))
            await running.until(b":gate\n")
        began = asyncio.get_running_loop().time()
        await docker_engine.stop(running.id, grace_s=10)
        await running.rest()
        assert asyncio.get_running_loop().time() - began < 3


async def test_binary_output_without_a_last_newline_arrives_as_it_is(
    docker_engine: DockerEngine, test_image: str
) -> None:
    done = await perform(
        docker_engine, test_image, RunScript(command=r"printf '\000\377\303\r\n\036interlock:x'")
    )
    assert done.output == b"\x00\xff\xc3\r\n\x1einterlock:x"


async def test_twenty_megabytes_arrive_whole(docker_engine: DockerEngine, test_image: str) -> None:
    line = "x" * 99
    script = RunScript(command=f"yes {line} | head -n 200000")
    done = await perform(docker_engine, test_image, script)
    assert hashlib.sha256(done.output).digest() == hashlib.sha256(f"{line}\n".encode() * 200_000).digest()


async def test_a_reader_that_does_not_read_holds_the_container_back(
    docker_engine: DockerEngine, test_image: str
) -> None:
    script = RunScript(command="head -c 30000000 /dev/zero; echo done > ../written")
    async with started(docker_engine, test_image) as running:
        await running.feed(script)
        await running.go()
        await running.until(b"command 0\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await docker_engine.wait(running.id)
        raw, container_exit = await running.rest()
    assert len(raw) > 29_000_000
    assert container_exit == ContainerExit(0)


async def test_a_process_killed_for_its_memory_is_told_as_such(
    docker_engine: DockerEngine, test_image: str
) -> None:
    script = RunScript(command="exec tail /dev/zero")
    done = await perform(docker_engine, test_image, script, Limits(memory_bytes=32 << 20))
    assert done.exit == ContainerExit(137, out_of_memory=True)


async def test_an_image_that_does_not_exist_is_named(docker_engine: DockerEngine) -> None:
    assert await docker_engine.image_id("interlock/no-such-image:1") == ""
    with pytest.raises(ImageUnavailable, match="no-such-image"):
        await docker_engine.create(
            ContainerSpec(name="interlock-test-x", image="interlock/no-such-image:1", end_line="e")
        )


async def test_an_image_without_a_shell_ends_with_127_before_any_phase(
    docker_engine: DockerEngine, shellless_image: str
) -> None:
    async with started(docker_engine, shellless_image) as running:
        raw, container_exit = await running.rest()
    assert container_exit == ContainerExit(127)
    assert b"sh" in raw
    assert running.split(raw)[1] == []


@pytest.mark.parametrize(
    "source", ["/var/run/docker.sock", "/var/run", "/run", "/", "/var/run/../run/docker.sock"]
)
async def test_the_engine_s_socket_cannot_be_mounted(
    docker_engine: DockerEngine, test_image: str, source: str
) -> None:
    with pytest.raises(MountRefused, match="hand the container engine"):
        async with started(docker_engine, test_image, mounts=(f"{source}:/host:ro",)):
            pass


async def test_a_mount_is_there_for_the_command(
    docker_engine: DockerEngine, test_image: str, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "file").write_text("cached")
    async with started(docker_engine, test_image, mounts=(f"{tmp_path}/cache:/cache:ro",)) as running:
        await running.feed(RunScript(command="cat /cache/file; touch /cache/new"))
        await running.go()
        raw, container_exit = await running.rest()
    assert running.split(raw)[0].startswith(b"cached")
    assert container_exit.exit_code == 1


async def test_a_container_is_found_by_its_labels_in_each_state(
    docker_engine: DockerEngine, test_image: str
) -> None:
    mine = {"dev.interlock.assignment": "asg_found"}
    async with started(docker_engine, test_image, name="interlock-test-found", labels=mine) as running:
        [found] = await docker_engine.find(mine)
        assert (found.id, found.name, found.state) == (
            running.id,
            "interlock-test-found",
            ContainerState.RUNNING,
        )
        await docker_engine.rename(running.id, "interlock-test-renamed")
        await docker_engine.stop(running.id, grace_s=1)
        [found] = await docker_engine.find(mine)
        assert (found.name, found.state) == ("interlock-test-renamed", ContainerState.ENDED)
    assert await docker_engine.find(mine) == []


async def test_a_removed_container_is_gone_and_removing_it_again_is_no_error(
    docker_engine: DockerEngine, test_image: str
) -> None:
    async with started(docker_engine, test_image) as running:
        await docker_engine.remove(running.id)
        await docker_engine.remove(running.id)
        with pytest.raises(ContainerGone):
            await docker_engine.wait(running.id)
    with pytest.raises(ContainerGone):
        await docker_engine.attach_output(ContainerId("0" * 64))


async def test_an_engine_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="does not answer"):
        await DockerEngine.connect(f"unix://{tmp_path}/docker.sock")


async def test_closing_the_input_ends_a_feed_that_nobody_reads(
    docker_engine: DockerEngine, test_image: str
) -> None:
    async with started(docker_engine, test_image) as running:
        await docker_engine.stop(running.id, grace_s=1)
        await running.rest()
        feeding = asyncio.create_task(running.input.feed(b"x" * 10_000_000))
        await asyncio.wait([feeding], timeout=0.1)
        await running.input.close()
        with pytest.raises(StreamCut):
            await feeding


async def test_another_process_can_attach_again_and_open_the_gate(
    docker_engine: DockerEngine, engine_url: str, test_image: str
) -> None:
    async with started(docker_engine, test_image) as running:
        await running.feed(RunScript(command="echo performed", init=("echo init",)))
        before = await running.until(b":gate\n")
        await running.output.close()
        await running.input.close()
        later = await DockerEngine.connect(engine_url)
        stream = await later.replay(running.id)
        again = await later.attach_input(running.id)
        await again.feed(gate_line(running.gate_token))
        await again.feed(gate_line(running.gate_token))
        replayed = await drain(stream)
        assert await later.wait(running.id) == ContainerExit(0)
        await again.close()
        await stream.close()
        await later.close()
    assert replayed.startswith(before)
    output, events = running.split(replayed)
    assert output == b"init\nperformed\n"
    assert PhaseBegan(Phase.PERFORMING) in events
