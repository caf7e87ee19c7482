"""Invariant 4: what a container wrote can be had again from the engine's log, byte for byte."""

import io
import random
import tarfile

import pytest

from runner.docker_engine import DockerEngine
from runner.script import RunScript, gate_line
from tests.integration.runner.containers import drain, started


def nasty_stream(seed: int, size_bytes: int) -> bytes:
    """NUL, invalid UTF-8, CR and newlines, lines around multiples of the log's 16 KiB pieces."""
    chosen = random.Random(seed)
    parts = []
    size = 0
    while size < size_bytes:
        pieces = chosen.choice((0, 0, 0, 1, 1, 2, 3))
        length = max(0, 16384 * pieces + chosen.choice((-2, -1, 0, 0, 1, 2, chosen.randrange(200))))
        parts.append(
            chosen.randbytes(length).replace(b"\n", b"\0") + chosen.choice((b"\n", b"\n", b"\r\n", b"\n\n"))
        )
        size += len(parts[-1])
    return b"".join(parts)[: size_bytes - chosen.randrange(3)]


@pytest.mark.parametrize("seed", range(6))
async def test_a_random_stream_comes_back_exactly(
    docker_engine: DockerEngine, test_image: str, seed: int
) -> None:
    expected = nasty_stream(seed, 400_000)
    # Written in blocks of a random size, so that the log's reader meets the lines in pieces.
    block_bytes = random.Random(seed).choice((100, 1000, 4096, 65536))
    async with started(docker_engine, test_image) as running:
        await running.feed(RunScript(command=f"dd if=../stream bs={block_bytes} 2>/dev/null"))
        await docker_engine.put_archive(running.id, file_in_tar("mnt/workspace/stream", expected))
        await running.go()
        attached, _ = await running.rest()
        replayed = await drain(await docker_engine.replay(running.id))
    assert running.split(attached)[0] == expected
    assert replayed == attached


async def test_twenty_megabytes_come_back_exactly(docker_engine: DockerEngine, test_image: str) -> None:
    script = RunScript(command="dd if=/dev/urandom bs=1M count=20 2>/dev/null")
    async with started(docker_engine, test_image) as running:
        await running.feed(script)
        await running.go()
        attached, _ = await running.rest()
        replayed = await drain(await docker_engine.replay(running.id))
    assert len(running.split(attached)[0]) == 20 << 20
    assert replayed == attached


async def test_replay_goes_on_live_without_a_gap(docker_engine: DockerEngine, test_image: str) -> None:
    script = RunScript(
        command="i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; touch ../half; "
        "while [ ! -e ../on ]; do sleep 0.01; done; "
        "while [ $i -lt 4000 ]; do echo line $i; i=$((i+1)); done; printf end"
    )
    async with started(docker_engine, test_image) as running:
        await running.feed(script)
        await running.go()
        before = await running.until(b"line 1999\n")
        await running.output.close()
        stream = await docker_engine.replay(running.id)
        replayed = b""
        while len(replayed) < len(before):
            replayed += await stream.read()
        await docker_engine.put_archive(running.id, file_in_tar("mnt/workspace/on", b""))
        replayed += await drain(stream)
        await docker_engine.wait(running.id)
    expected = b"".join(b"line %d\n" % number for number in range(4000)) + b"end"
    assert running.split(replayed)[0] == expected


@pytest.mark.parametrize("length", [10, 16384, 16385, 40000])
async def test_the_gate_s_mark_is_seen_in_a_replay_that_follows_an_open_line(
    docker_engine: DockerEngine, test_image: str, length: int
) -> None:
    init = f"head -c {length} /dev/zero"
    async with started(docker_engine, test_image) as running:
        stream = await docker_engine.replay(running.id)
        await running.feed(RunScript(command="true", init=(init,)))
        replayed = b""
        while not replayed.endswith(b":gate\n"):
            replayed += await stream.read()
        await running.input.feed(gate_line(running.gate_token))
        await drain(stream)
    assert len(running.split(replayed)[0]) == length


async def test_a_replay_can_be_left_while_the_container_is_silent(
    docker_engine: DockerEngine, test_image: str
) -> None:
    async with started(docker_engine, test_image) as running:
        stream = await docker_engine.replay(running.id)
        await stream.close()


def file_in_tar(name: str, content: bytes) -> bytes:
    archive = io.BytesIO()
    member = tarfile.TarInfo(name)
    member.size = len(content)
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()
