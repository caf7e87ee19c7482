"""A change is a new OPA that takes over: decisions go on meanwhile, each by one set of policies."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from control_plane.policies.engine import LoadedPolicy
from control_plane.policies.errors import PolicyRefused
from policies.workbench.compiler import Compiler
from policies.workbench.kinds import Kind
from tests.integration.policies.house import House, ref

OLD = 'package a\ndeny contains "old" if true\n'
NEW = 'package a\ndeny contains "new" if true\n'
UNLOADABLE = LoadedPolicy(
    "unloadable", 1, 'package interlock.policies["unloadable"]\ndeny := nothing_such(1)\n'
)


async def test_decisions_go_on_while_a_change_is_loaded(house: House) -> None:
    policy = await house.load(Kind.TASK, OLD)
    other = await house.compiled(Kind.TASK, NEW, "another")
    before = house.opa.pid

    change = asyncio.create_task(house.engine.put(other))
    answers = []
    while not change.done():
        answers.append((await house.task(policy)).messages)
    await change

    assert len(answers) > 1
    assert all(messages == ["old"] for messages in answers)
    assert house.opa.pid != before


async def test_a_child_that_was_replaced_ends(house: House) -> None:
    before = house.opa.pid

    await house.load(Kind.TASK, OLD)

    async with asyncio.timeout(10):
        while Path(f"/proc/{before}").exists():  # noqa: ASYNC240
            await asyncio.sleep(0.01)


async def test_many_changes_at_once_are_all_loaded(house: House) -> None:
    texts = {f"at-once-{number}": NEW.replace("new", str(number)) for number in range(5)}
    new = [await house.compiled(Kind.TASK, text, policy_id) for policy_id, text in texts.items()]

    await asyncio.gather(*map(house.engine.put, new))

    assert (await house.task(*map(ref, texts))).messages == ["0", "1", "2", "3", "4"]


async def test_a_whole_set_takes_the_place_of_another(opa_path: Path, compiler: Compiler) -> None:
    async with House.opened(opa_path, compiler) as house:
        await house.load(Kind.TASK, OLD, "changed")
        new = await house.compiled(Kind.TASK, NEW, "changed", revision=2)

        await house.engine.hold([new])

        assert (await house.task(ref("changed", 2))).messages == ["new"]


async def test_a_policy_that_opa_cannot_load_is_left_out_and_the_others_go_on(
    opa_path: Path, compiler: Compiler
) -> None:
    async with House.opened(opa_path, compiler) as house:
        policy = await house.load(Kind.TASK, OLD)

        with pytest.raises(PolicyRefused, match="undefined function nothing_such"):
            await house.engine.put(UNLOADABLE)

        assert (await house.task(policy)).messages == ["old"]
        assert house.opa.pid is not None
        os.kill(house.opa.pid, signal.SIGKILL)
        assert (await house.task(policy)).messages == ["old"]


async def test_an_engine_starts_although_a_stored_policy_cannot_be_loaded(
    opa_path: Path, compiler: Compiler
) -> None:
    async with House.opened(opa_path, compiler, policies=[UNLOADABLE]) as house:
        assert (await house.task(await house.load(Kind.TASK, NEW))).messages == ["new"]
