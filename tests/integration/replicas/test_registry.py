"""Who is there, and whose runner is whose: decided in the database, whatever each replica believes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from control_plane.replicas import registry, store
from control_plane.replicas.registry import Registry, StorageApart
from control_plane.replicas.store import Claim
from control_plane.storage.database import Database
from control_plane.storage.tables import replicas, runner_connections

RUNNER = "rnr_00000000000000000000000001"
LATER_US = 2**60

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


async def claim(replica: Registry, boot_id: str = "boot-1") -> Claim | None:
    return await replica.claim(RUNNER, pool_id="public", capacity=2, boot_id=boot_id, status=b"")


async def start(db: Database, folder: Path, storage_id: str = "one") -> Registry:
    made = Registry(db, address=folder.name)
    await made.start(existing(folder), storage_id)
    return made


def existing(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


async def make_silent(db: Database, replica: Registry) -> None:
    """As if it had given its last sign of life long ago."""
    statement = sa.update(replicas).where(replicas.c.id == replica.id).values(heartbeat_at=0)
    await db.write(lambda tx: tx.execute(statement))


async def is_connected(db: Database) -> bool:
    return await db.read(lambda tx: registry.is_connected(tx, RUNNER, hold=False))


@on_postgresql
async def test_the_last_of_two_that_claim_a_runner_has_it(db: Database, tmp_path: Path) -> None:
    first, second = await start(db, tmp_path / "a"), await start(db, tmp_path / "b")
    assert await claim(first) == Claim(1, None)
    assert await claim(second) == Claim(2, first.id)
    assert not await db.write(lambda tx: first.let_go(tx, RUNNER, 1, 5))
    assert await is_connected(db)
    assert await db.write(lambda tx: second.let_go(tx, RUNNER, 2, 5))
    assert not await is_connected(db)


@on_postgresql
async def test_of_many_claims_at_once_each_has_an_epoch_of_its_own(db: Database, tmp_path: Path) -> None:
    both = [await start(db, tmp_path / name) for name in ("a", "b")]
    claims = await asyncio.gather(*(claim(both[number % 2]) for number in range(12)))
    assert sorted(each.epoch for each in claims if each) == list(range(1, 13))


@on_postgresql
async def test_a_runner_with_another_boot_id_is_refused_while_it_is_connected_elsewhere(
    db: Database, tmp_path: Path
) -> None:
    """Invariant 3: two machines with one runner's folder."""
    first, second = await start(db, tmp_path / "a"), await start(db, tmp_path / "b")
    await claim(first)
    assert await claim(second, "boot-2") is None
    assert await claim(first, "boot-2") == Claim(2, first.id)


@on_postgresql
async def test_who_gives_no_sign_is_buried_by_one_of_the_others_and_its_runners_are_nowhere(
    db: Database, tmp_path: Path
) -> None:
    dying, *living = [await start(db, tmp_path / name) for name in ("a", "b", "c")]
    await claim(dying)
    assert (await living[0].give_sign()).orphans == []
    await make_silent(db, dying)
    signs = await asyncio.gather(*(replica.give_sign() for replica in living))
    assert sorted(runner for sign in signs for runner in sign.orphans) == [RUNNER]
    assert not await is_connected(db)


@on_postgresql
async def test_a_runner_that_came_to_a_replica_after_its_burial_is_nowhere_where_that_dies(
    db: Database, tmp_path: Path
) -> None:
    frozen, other = await start(db, tmp_path / "a"), await start(db, tmp_path / "b")
    await make_silent(db, frozen)
    await other.give_sign()
    await claim(frozen)
    assert (await other.give_sign()).orphans == [RUNNER]
    assert not await is_connected(db)


@on_postgresql
async def test_who_was_buried_and_lives_learns_of_it_and_is_known_again(db: Database, tmp_path: Path) -> None:
    frozen, other = await start(db, tmp_path / "a"), await start(db, tmp_path / "b")
    await make_silent(db, frozen)
    await other.give_sign()
    assert [(await frozen.give_sign()).was_known for _ in range(2)] == [False, True]


async def test_a_replica_that_starts_again_in_its_folder_buries_who_was_there(
    db: Database, tmp_path: Path
) -> None:
    before = await start(db, tmp_path / "a")
    await claim(before)
    again = Registry(db)
    assert await again.start(tmp_path / "a", "one") == [RUNNER]
    assert await db.read(lambda tx: [other.id for other in store.others(tx, again.id)]) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_on_sqlite_whoever_was_there_is_gone(db: Database, tmp_path: Path) -> None:
    await claim(await start(db, tmp_path / "a"))
    again = Registry(db)
    assert await again.start(existing(tmp_path / "b"), "another") == [RUNNER]


@on_postgresql
async def test_a_replica_that_keeps_outputs_elsewhere_is_refused_while_the_other_lives(
    db: Database, tmp_path: Path
) -> None:
    living = await start(db, tmp_path / "a")
    with pytest.raises(
        StorageApart, match=r"the control plane at a shares this database.*INTERLOCK_SHARED_DIR"
    ):
        await start(db, tmp_path / "b", "another")
    await make_silent(db, living)
    await start(db, tmp_path / "b", "another")


async def test_a_lease_is_over_only_where_the_runner_was_nowhere_all_the_time(
    db: Database, tmp_path: Path
) -> None:
    replica = await start(db, tmp_path / "a")
    await claim(replica)
    assert not await db.write(lambda tx: registry.is_nowhere_since(tx, RUNNER, LATER_US))
    await db.write(lambda tx: replica.let_go(tx, RUNNER, 1, 1000))
    assert await db.write(lambda tx: registry.is_nowhere_since(tx, RUNNER, 1000))
    assert not await db.write(lambda tx: registry.is_nowhere_since(tx, RUNNER, 999))
    rows = await db.read(lambda tx: tx.execute(sa.select(runner_connections.c.lost_at)).scalars().all())
    assert rows == [1000]
