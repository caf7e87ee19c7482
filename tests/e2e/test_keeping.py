"""Backup, restore and verify by their commands, on SQLite and on PostgreSQL, while a real control plane serves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

from interlock import errors, types
from interlock.client import Client
from scripts import objects, postgres
from tests import house as houses
from tests.databases import BACKENDS, Databases
from tests.e2e.conftest import new_stack
from tests.holding import HOLD, release
from tests.house import House, begun, run_task, until, watch

KEY_WORDS = "whoever-has-this-backup-can-read-every-secret"
MANY_LINES = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
LINES = b"".join(b"line %d\n" % number for number in range(20_000))


@dataclass
class Answer:
    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.stdout))


@pytest.fixture(params=BACKENDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def house(
    tmp_path: Path, engine_url: str, test_image: str, kind: str, databases: Databases
) -> AsyncIterator[House]:
    async with serving(tmp_path / "first", engine_url, kind, databases) as made:
        await made.start_server()
        await made.start_runner("one", capacity=4)
        yield made


async def test_a_backup_that_was_made_while_tasks_performed_is_restored_and_serves_the_same(
    house: House,
    kind: str,
    databases: Databases,
    engine_url: str,
    docker_client: docker.DockerClient,
    test_image: str,
    tmp_path: Path,
) -> None:
    async with house.connect() as client:
        stack, other = await new_stack(client, test_image), await new_stack(client, test_image)
        ended = [
            await run_task(client, stack.id, MANY_LINES),
            await run_task(client, stack.id, "echo no; exit 3"),
        ]
        await compressed(house, ended[0].run.id)
        with pytest.raises(errors.WrongState):
            await client.runs.abandon(ended[0].run.id, reason="it is over: this must leave its output alone")
        assert await read(client, ended[0].run.id, 100_000) == LINES[100_000:]
        held = await client.runs.create_task(stack.id, f"echo begun; {HOLD}; echo over")
        await begun(client, held.id)

        busy = asyncio.create_task(keep_busy(client, other.id))
        backup = str(tmp_path / "backup")
        made = await admin(house, "backup", backup, "--master-key", KEY_WORDS, "-o", "json")
        assert not busy.done()
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
        assert (made.exit_code, made.json["intact"]) == (0, True), made.stderr
        assert "outputs:" in made.stderr

        release(docker_client, held.id)
        whole = await watch(client, held.id)
        assert (whole.state, whole.output) == ("FINISHED", b"begun\nover\n")
        assert (await admin(house, "verify")).exit_code == 0
        assert (await admin(house, "verify", backup)).exit_code == 0
        before = [await client.runs.get(seen.run.id) for seen in ended]

    async with serving(tmp_path / "second", engine_url, kind, databases, first_key_of=house) as second:
        assert (await admin(second, "restore", backup)).exit_code == 0
        await second.start_server()
        async with second.connect() as client:
            assert [await client.runs.get(seen.run.id) for seen in ended] == before
            for seen in ended:
                for offset in (0, len(seen.output) // 3):
                    assert await read(client, seen.run.id, offset) == seen.output[offset:]
            # Its runner is not here: it may still be performing, so it keeps its slot.
            assert (await client.runs.get(held.id)).state == types.RunState.RUN_STATE_PERFORMING
            sequence, _, digest = made.json["audit_head"].partition(":")
            checked = await client.audit.verify(
                known_head=types.AuditHead(sequence=int(sequence), hash=digest)
            )
            assert checked.intact
        await damage_is_named(second, ended[0].run.id)


async def damage_is_named(house: House, run_id: str) -> None:
    path = output_of(house, run_id)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    answer = await admin(house, "verify", "--output", "json")
    assert answer.exit_code == 3
    assert [(fault["kind"], fault["id"]) for fault in answer.json["faults"]] == [("output", run_id)]


async def test_what_is_refused_says_so_with_its_exit_code(served: House, tmp_path: Path) -> None:
    house = served
    nothing = await admin(house, "restore", str(tmp_path / "nothing"))
    assert (nothing.exit_code, nothing.stdout) == (1, "")
    assert nothing.stderr.startswith("interlock admin restore: ")
    assert "is not a backup" in nothing.stderr

    words = await admin(house, "backup", str(tmp_path / "backup"), "--master-key", "yes")
    assert (words.exit_code, KEY_WORDS in words.stderr) == (2, True)
    assert (await admin(house, "verify", "--known-head", "nonsense")).exit_code == 2


async def test_output_in_an_object_store_is_packed_and_watched_from_any_byte(
    tmp_path: Path, engine_url: str, test_image: str, object_server: objects.Server
) -> None:
    environment = {**object_server.environment(), "INTERLOCK_COMPRESS_AFTER": "0s"}
    async with houses.opened(tmp_path, engine_url, **environment) as house, house.connect() as client:
        await house.start_runner("one")
        stack = await new_stack(client, test_image)
        seen = await run_task(client, stack.id, MANY_LINES)
        await house.server.logged("output.compressed")
        for offset in (0, 12_345):
            assert await read(client, seen.run.id, offset) == LINES[offset:]
        verified = await admin(house, "verify", "-o", "json")
        assert (verified.exit_code, verified.json["output_bytes"]) == (0, len(LINES))


@contextlib.asynccontextmanager
async def serving(
    folder: Path, engine_url: str, kind: str, databases: Databases, *, first_key_of: House | None = None
) -> AsyncIterator[House]:
    """A house that is not started yet, with an empty database."""
    environment = {"INTERLOCK_COMPRESS_AFTER": "0s"}
    with contextlib.ExitStack() as stack:
        if kind == "postgresql":
            environment["INTERLOCK_DATABASE_URL"] = stack.enter_context(databases.empty(kind))
        await asyncio.to_thread(folder.mkdir)
        made = House(folder, engine_url, environment, first_key_of=first_key_of)
        try:
            yield made
        finally:
            await asyncio.to_thread(made.close)


async def admin(house: House, *words: str) -> Answer:
    """`interlock admin` where the house's server runs, with PostgreSQL's tools on PATH where they are needed."""
    environment: Mapping[str, str] = {**os.environ, **house.server.environment}
    if "INTERLOCK_DATABASE_URL" in environment:
        tools = await asyncio.to_thread(postgres.ensure)
        environment = {**environment, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "interlock.cli", "admin", *words),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return Answer(process.returncode, stdout.decode(), stderr.decode())


async def keep_busy(client: Client, stack_id: str) -> None:
    """One task after the other, until it is cancelled."""
    while True:
        await run_task(client, stack_id, "echo something", skip_init=True)


async def compressed(house: House, run_id: str) -> None:
    path = output_of(house, run_id)
    await until(lambda: path.exists() and not path.with_suffix("").exists(), f"{path}", house.server)


def output_of(house: House, run_id: str) -> Path:
    return house.data_dir / "output" / run_id[-2:] / f"{run_id}.log.zst"


async def read(client: Client, run_id: str, offset: int) -> bytes:
    return (await watch(client, run_id, offset=offset)).output
