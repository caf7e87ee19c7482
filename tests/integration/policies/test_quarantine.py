"""A policy that eats time or memory is found by itself, named, and after three times in a row not asked any more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from control_plane import errors
from control_plane.identity.principal import Principal
from control_plane.policies.child import Child
from control_plane.policies.errors import EvaluationFailed, OpaUnavailable
from control_plane.storage.database import Database
from interlock.v1 import policy_pb2
from policies.workbench.compiler import Compiler
from tests.integration.policies.house import DENY_NOTHING
from tests.integration.policies.keep import ADMIN, ENDLESS, WITHIN_S, Keep, replica

# OPA looks whether anybody still waits between built-ins, not within this one.
UNSTOPPABLE = 'package a\n\ndeny contains "x" if bits.lsh(1, 3000000000) == 1\n'
# Doubles a text until there is no room for it.
BOMB = 'package a\n\nt0 := concat("", ["abcdefgh" | some _ in numbers.range(1, 100000)])\n\n' + "".join(
    f't{n} := concat("", [t{n - 1}, t{n - 1}])\n\n' for n in range(1, 14)
) + 'deny contains "x" if count(t13) == 1\n'  # fmt: skip
OTHER_TEXT = DENY_NOTHING.replace("never", "no")


@pytest.fixture
async def keep(db: Database, opa_path: Path, compiler: Compiler) -> AsyncIterator[Keep]:
    async with replica(db, opa_path, compiler) as made:
        yield made


ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def test_three_overruns_in_a_row_are_a_quarantine_for_every_replica_and_after_a_restart(
    keep: Keep, database_url: str, opa_path: Path, compiler: Compiler
) -> None:
    made = await keep.create(ENDLESS)

    failure = await keep.quarantined()

    assert failure.policy_id == made.id
    assert "it takes more than 0.3 s, 3 times in a row" in failure.cause
    assert f"interlock policy release {made.id}" in failure.cause
    assert await keep.actions() == ["policy.overran", "policy.overran", "policy.quarantined"]
    assert (await keep.catalog.get(made.id)).quarantine.cause == "it takes more than 0.3 s"
    other_db = Database(database_url)
    async with replica(other_db, opa_path, compiler) as other:
        assert "quarantined since" in (await other.refused()).cause
    other_db.close()


@ON_SQLITE
async def test_a_policy_in_quarantine_refuses_at_once_without_asking_opa(keep: Keep) -> None:
    await keep.create(DENY_NOTHING)
    await keep.noted(3)

    await keep.house.freeze()

    assert "quarantined since" in (await keep.refused()).cause


async def test_a_good_answer_in_between_begins_the_count_anew(keep: Keep) -> None:
    await keep.create(DENY_NOTHING)
    await keep.noted(2)

    await keep.house.task(*await keep.policies())

    async with asyncio.timeout(WITHIN_S):
        while (await keep.policies())[0].overruns:
            await asyncio.sleep(0.01)
    await keep.noted(2)
    assert (await keep.house.task(*await keep.policies())).is_allowed
    assert (await keep.actions())[:3] == ["policy.overran", "policy.overran", "policy.answered_again"]


async def test_an_admin_releases_a_policy(keep: Keep) -> None:
    made = await keep.create(DENY_NOTHING)
    await keep.noted(3)

    with pytest.raises(errors.NotAllowed):
        await keep.quarantine.release(Principal(id="key_2", login="ann", name="Ann"), made.id)
    released = await keep.quarantine.release(ADMIN, made.id)
    again = await keep.quarantine.release(ADMIN, made.id)

    assert not released.HasField("quarantine")
    assert (again.etag, released.etag) == (made.etag, made.etag)
    assert (await keep.house.task(*await keep.policies())).is_allowed
    assert (await keep.actions()).count("policy.released") == 1


@ON_SQLITE
async def test_a_new_text_ends_the_quarantine_and_a_new_description_does_not(keep: Keep) -> None:
    made = await keep.create(DENY_NOTHING)
    await keep.noted(3)

    described = await keep.update(
        policy_pb2.Policy(id=made.id, etag=made.etag, description="d"), "description"
    )
    refused = await keep.refused()
    rewritten = await keep.update(policy_pb2.Policy(id=made.id, body=OTHER_TEXT), "body")

    assert described.HasField("quarantine")
    assert "quarantined since" in refused.cause
    assert not rewritten.HasField("quarantine")
    assert (await keep.house.task(*await keep.policies())).is_allowed
    assert (await keep.actions())[-1] == "policy.released"


@ON_SQLITE
async def test_what_a_text_did_that_is_not_there_any_more_is_not_counted(keep: Keep) -> None:
    made = await keep.create(DENY_NOTHING)
    [before] = await keep.policies()
    await keep.update(policy_pb2.Policy(id=made.id, body=OTHER_TEXT), "body")

    await keep.quarantine.overran(before, "it takes more than 0.3 s")

    assert [policy.overruns for policy in await keep.policies()] == [0]


@ON_SQLITE
async def test_decisions_of_other_stacks_go_on_while_a_policy_is_found_and_quarantined(keep: Keep) -> None:
    await keep.create(ENDLESS)
    await keep.create('package a\ndeny contains "no" if true\n', "other")
    others = await keep.policies("other")
    answers = []

    async with asyncio.TaskGroup() as group:
        found = group.create_task(keep.quarantined())
        while not found.done():
            # On a machine that is too slow, an answer may be late; wrong it is never.
            with contextlib.suppress(OpaUnavailable):
                answers.append((await keep.house.task(*others)).messages)
            await asyncio.sleep(0.005)

    assert answers
    assert all(messages == ["no"] for messages in answers)


@ON_SQLITE
async def test_what_opa_cannot_interrupt_ends_with_its_process(
    keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keep.create(UNSTOPPABLE)
    before, replaced = keep.house.opa.pid, asyncio.Event()
    renew = keep.house.opa.renew

    async def renewed() -> Mapping[str, str]:
        left_out = await renew()
        replaced.set()
        return left_out

    monkeypatch.setattr(keep.house.opa, "renew", renewed)
    await keep.quarantined()

    async with asyncio.timeout(WITHIN_S):
        await replaced.wait()
        while Path(f"/proc/{before}").exists():  # noqa: ASYNC240
            await asyncio.sleep(0.01)
    assert keep.house.opa.pid != before


@ON_SQLITE
async def test_a_policy_of_which_opa_dies_is_quarantined_and_its_neighbours_are_answered(
    db: Database, opa_path: Path, compiler: Compiler
) -> None:
    async with replica(db, opa_path, compiler, deadline_s=5, memory_bytes=256 << 20) as keep:
        made = await keep.create(BOMB)
        await keep.create('package a\ndeny contains "no" if true\n', "other")
        others = await keep.policies("other")
        answers = []

        async with asyncio.TaskGroup() as group:
            found = group.create_task(keep.quarantined())
            while not found.done():
                with contextlib.suppress(OpaUnavailable):
                    answers.append((await keep.house.task(*others)).messages)
                await asyncio.sleep(0.005)

    assert found.result().policy_id == made.id
    assert "needs more than 256 MiB of memory, 3 times in a row" in found.result().cause
    assert all(messages == ["no"] for messages in answers)


@ON_SQLITE
async def test_a_caller_who_does_not_wait_for_the_end_does_not_hide_the_policy(keep: Keep) -> None:
    await keep.create(ENDLESS)

    async with asyncio.timeout(WITHIN_S):
        while not (policy := (await keep.policies())[0]).overruns:
            with contextlib.suppress(TimeoutError, OpaUnavailable, EvaluationFailed):
                async with asyncio.timeout(0.25):
                    await keep.house.task(policy)


@ON_SQLITE
async def test_an_opa_that_is_killed_again_and_again_is_no_policys_fault(keep: Keep) -> None:
    await keep.create('package a\ndeny contains "no" if true\n')
    policies = await keep.policies()

    for _ in range(5):
        deciding = asyncio.create_task(keep.house.task(*policies))
        if keep.house.opa.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(keep.house.opa.pid, signal.SIGKILL)
        with contextlib.suppress(OpaUnavailable):
            assert (await deciding).messages == ["no"]

    assert (await keep.policies())[0].overruns == 0
    assert await keep.actions() == []


@ON_SQLITE
async def test_a_machine_that_gives_a_policy_no_time_is_not_its_fault(
    keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keep.create(ENDLESS)
    monkeypatch.setattr(Child, "cpu_s", lambda _: 0.0)

    with pytest.raises(OpaUnavailable, match=r"more than 0\.3 s"):
        await keep.house.task(*await keep.policies())

    assert (await keep.policies())[0].overruns == 0
