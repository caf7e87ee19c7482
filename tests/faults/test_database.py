"""Invariants 7 and 8: what the control plane has acknowledged, it knows after SIGKILL, once; and it does not start on
data that it cannot use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sized
from functools import partial
from pathlib import Path

import pytest

from interlock import types
from interlock.client import Client
from tests import house as houses
from tests.e2e.conftest import new_stack
from tests.house import House, until

TASKS = 200


@pytest.fixture
async def house(tmp_path: Path, engine_url: str) -> AsyncIterator[House]:
    """Without a runner."""
    async with houses.opened(tmp_path, engine_url) as made:
        yield made


async def test_tasks_that_are_created_while_the_server_is_killed_exist_once(
    house: House, client: Client
) -> None:
    stacks = [await new_stack(client) for _ in range(10)]
    acknowledged: dict[str, types.Run] = {}

    async def create(number: int) -> None:
        run = await client.runs.create_task(
            stacks[number % 10].id, f"echo {number}", request_id=f"request-{number}"
        )
        acknowledged[f"request-{number}"] = run

    creating = asyncio.gather(*(create(number) for number in range(TASKS)))
    for many in (10, 60, 120):
        await until(partial(has_at_least, acknowledged, many), f"{many} tasks")
        house.server.kill()
        await house.start_server()
    await creating
    listed = [run async for run in client.runs.list()]
    assert sorted(run.id for run in listed) == sorted(run.id for run in acknowledged.values())
    assert sorted(run.command for run in listed) == sorted(f"echo {number}" for number in range(TASKS))
    again = await client.runs.create_task(stacks[7].id, "echo 7", request_id="request-7")
    assert again.id == acknowledged["request-7"].id
    created = [event.resource_id async for event in client.audit.list(action="task.created")]
    assert sorted(created) == sorted(run.id for run in listed)
    assert (await client.audit.verify()).intact


async def test_events_that_were_not_yet_sealed_when_the_server_was_killed_are_sealed_by_the_next(
    house: House, client: Client
) -> None:
    stack = await new_stack(client)
    for _ in range(3):
        await asyncio.gather(*(client.runs.create_task(stack.id, "true") for _ in range(20)))
        house.server.kill()
        await house.start_server()
    verdict = await client.audit.verify()
    assert verdict.intact
    assert len([event async for event in client.audit.list(action="task.created")]) == 60


async def test_a_master_key_of_another_installation_is_refused_at_the_start(house: House) -> None:
    await asyncio.to_thread(house.server.stop)
    (house.data_dir / "master.key").write_text("ab" * 32)
    said = await refusal(house)
    assert "is not the one that the secrets in the database are sealed under" in said
    assert "Traceback" not in said


async def test_a_lost_master_key_is_not_replaced_by_a_new_one(house: House) -> None:
    await asyncio.to_thread(house.server.stop)
    (house.data_dir / "master.key").unlink()
    assert "put it back from its backup" in await refusal(house)
    assert not (house.data_dir / "master.key").exists()


async def test_a_master_key_that_others_can_read_is_refused(house: House) -> None:
    await asyncio.to_thread(house.server.stop)
    (house.data_dir / "master.key").chmod(0o644)
    assert "chmod 600" in await refusal(house)


async def test_an_empty_master_key_is_refused(house: House) -> None:
    await asyncio.to_thread(house.server.stop)
    (house.data_dir / "master.key").write_text("")
    assert "64 hex digits" in await refusal(house)


async def test_a_database_that_is_none_is_refused_in_one_line(house: House) -> None:
    await asyncio.to_thread(house.server.stop)
    for file in house.data_dir.glob("interlock.db*"):
        file.write_bytes(b"this is no database" * 1000)
    said = await refusal(house)
    assert "Traceback" not in said
    assert "interlock.db" in said


async def test_a_data_folder_that_is_none_is_refused_in_one_line(house: House, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    house.server.environment = {**house.server.environment, "INTERLOCK_DATA_DIR": str(tmp_path / "file")}
    house.server.kill()
    said = await refusal(house)
    assert "Traceback" not in said
    assert "INTERLOCK_DATA_DIR" in said


async def test_what_a_killed_server_announced_does_not_keep_the_next_from_starting(
    house: House, client: Client
) -> None:
    house.server.kill()
    assert (house.data_dir / "server.json").exists()
    house.server.start()
    await house.server.logged("server.ready")
    await client.identity.get_caller()


async def refusal(house: House) -> str:
    """What the server says that does not start."""
    house.server.start()
    assert house.server.process is not None
    assert await asyncio.to_thread(house.server.process.wait, 30) == 1, house.server.text()
    return house.server.text()


def has_at_least(acknowledged: Sized, many: int) -> bool:
    return len(acknowledged) >= many
