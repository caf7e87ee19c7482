"""Invariant 6: no answer, a wrong one or a late one refuses, and names the policy at fault."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from control_plane.policies.combine import AccessLevel
from control_plane.policies.engine import PolicyEngine
from control_plane.policies.errors import EvaluationFailed, OpaUnavailable, PoliciesChanged
from control_plane.policies.external_opa import ExternalOpa
from policies.workbench.compiler import Compiler
from policies.workbench.kinds import Kind
from tests.integration.policies.house import (
    ADMIN,
    ALLOW_ALL,
    ANN,
    DENY_NOTHING,
    REQUEST,
    SANITIZER_KEY,
    STACK,
    House,
    ref,
)

WITHIN_S = 180
CONFLICT = 'package a\n\nword := "a" if true\n\nword := "b" if request.command == "ls"\n\ndeny contains word if true\n'
CONFLICT_V0 = (
    'package a\n\nword = "a" { true }\nword = "b" { request.command == "ls" }\ndeny[word] { true }\n'
)
RUNAWAY = 'package a\n\ndeny contains x if {\n\tsome n in numbers.range(1, 300000000)\n\tx := sprintf("%d", [n])\n}\n'


async def failure(house: House, *policies: str) -> EvaluationFailed:
    loaded = [await house.load(Kind.TASK, text) for text in policies]
    with pytest.raises(EvaluationFailed) as caught:
        await house.task(*loaded)
    return caught.value


@pytest.mark.parametrize(("text", "lines"), [(CONFLICT, (3, 5)), (CONFLICT_V0, (3, 4))])
async def test_a_conflict_is_refused_with_the_policy_and_the_authors_lines(
    house: House, text: str, lines: tuple[int, int]
) -> None:
    await house.load(Kind.TASK, DENY_NOTHING, "innocent")
    bad = await house.load(Kind.TASK, text)

    with pytest.raises(EvaluationFailed, match="rule word produced conflicting values") as caught:
        await house.task(ref("innocent"), bad)

    assert caught.value.policy_id == bad.id
    first, second = lines
    assert caught.value.cause.startswith(f"line {second}: ")
    assert f'"a" at line {first}\n' in caught.value.cause


async def test_a_conflict_on_some_inputs_refuses_only_those(house: House) -> None:
    bad = await house.load(Kind.TASK, CONFLICT)

    assert (await house.task(bad, command="pwd")).messages == ["a"]


async def test_a_built_in_that_fails_refuses_although_it_would_be_undefined(house: House) -> None:
    text = 'package a\n\ndeny contains "x" if {\n\tnot to_number(request.command) > 0\n\tfalse\n}\n'

    failed = await failure(house, text)

    assert "line 4:" in failed.cause


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('package a\ndeny := {"x"} if request.command == "other"\n', "undefined"),
        ('package a\nwrong := {"a": 1}\ndeny := wrong\n', "of type object"),
        ("package a\nwrong := count([])\ndeny := wrong\n", "of type number"),
        ("package a\ndeny contains 1 if true\n", "contains 1"),
        ("package a\ndeny contains request if true\n", "set of strings"),
    ],
)
async def test_a_deny_of_another_type_is_refused(house: House, text: str, problem: str) -> None:
    assert problem in (await failure(house, text)).cause


async def test_a_policy_of_another_kind_is_refused(house: House) -> None:
    assert "no task policy" in str(await _failure_of(house, await house.load(Kind.ACCESS, ALLOW_ALL)))


async def _failure_of(house: House, policy: object) -> EvaluationFailed:
    with pytest.raises(EvaluationFailed) as caught:
        await house.task(policy)  # type: ignore[arg-type]
    return caught.value


async def test_a_failing_task_policy_is_not_shown_to_who_has_no_access(house: House) -> None:
    bad = await house.load(Kind.TASK, CONFLICT)

    decision = await house.engine.decide_task(REQUEST, ANN, STACK, "ls", access=[], task=[bad])

    assert (decision.is_allowed, decision.access.level) == (False, AccessLevel.NONE)


async def test_a_policy_that_is_not_loaded_is_refused_within_the_deadline(house: House) -> None:
    with pytest.raises(OpaUnavailable, match="not loaded"):
        async with asyncio.timeout(15):
            await house.task(ref("unheard-of"))


async def test_a_decision_waits_for_the_revision_that_is_just_being_loaded(house: House) -> None:
    await house.load(Kind.TASK, DENY_NOTHING, "awaited")
    new = await house.compiled(Kind.TASK, 'package a\ndeny contains "new" if true\n', "awaited", revision=2)

    async with asyncio.TaskGroup() as group:
        decision = group.create_task(house.task(ref("awaited", 2)))
        await asyncio.sleep(0.1)  # it has asked and found revision 1
        group.create_task(house.engine.put(new))

    assert decision.result().messages == ["new"]


async def test_a_runaway_policy_is_named_and_the_others_go_on(opa_path: Path, compiler: Compiler) -> None:
    async with House.opened(opa_path, compiler, deadline_s=1) as house:
        good = await house.load(Kind.TASK, DENY_NOTHING)
        bad = await house.load(Kind.TASK, RUNAWAY)

        async def named() -> EvaluationFailed:
            """Where the machine is too slow to tell in time, nobody is named yet."""
            while True:
                with contextlib.suppress(OpaUnavailable):
                    try:
                        await house.task(good, bad)
                    except EvaluationFailed as failure:
                        return failure

        async with asyncio.timeout(WITHIN_S):
            failure = await named()

        assert failure.policy_id == bad.id
        assert (await house.task(good)).is_allowed


async def test_a_policy_that_eats_memory_is_named_although_opa_dies_of_it_and_it_is_back(
    opa_path: Path, compiler: Compiler
) -> None:
    async with House.opened(opa_path, compiler, deadline_s=20, memory_bytes=192 << 20) as house:
        good = await house.load(Kind.TASK, DENY_NOTHING)
        bad = await house.load(Kind.TASK, RUNAWAY)
        before = house.opa.pid

        with pytest.raises(EvaluationFailed, match="needs more than 192 MiB of memory") as caught:
            await house.task(good, bad)

        assert caught.value.policy_id == bad.id
        assert (await house.task(good)).is_allowed
        assert house.opa.pid != before


async def test_opa_is_not_sent_the_same_deadly_question_again(opa_path: Path, compiler: Compiler) -> None:
    async with House.opened(opa_path, compiler, deadline_s=20, memory_bytes=192 << 20) as house:
        bad = await house.load(Kind.TASK, RUNAWAY)
        pids = {house.opa.pid}

        async with asyncio.TaskGroup() as group:
            decision = group.create_task(_failure_of(house, bad))
            while not decision.done():
                pids.add(house.opa.pid)
                await asyncio.sleep(0.01)

        await house.opa.connected()
        pids.add(house.opa.pid)
        # The one that died, perhaps none for a moment, and the one that took over.
        assert len(pids - {None}) == 2


async def test_a_killed_opa_is_back_with_every_policy(opa_path: Path, compiler: Compiler) -> None:
    async with House.opened(opa_path, compiler) as house:
        first = await house.load(Kind.TASK, 'package a\ndeny contains "one" if true\n')
        second = await house.load(Kind.TASK, 'package a\ndeny contains "two" if true\n')
        assert house.opa.pid is not None

        for _ in range(2):
            os.kill(house.opa.pid, signal.SIGKILL)
            assert (await house.task(first, second)).messages == ["one", "two"]


async def test_a_change_during_a_restart_is_loaded(opa_path: Path, compiler: Compiler) -> None:
    async with House.opened(opa_path, compiler) as house:
        assert house.opa.pid is not None
        new = await house.compiled(Kind.TASK, 'package a\ndeny contains "new" if true\n', "new")

        os.kill(house.opa.pid, signal.SIGKILL)
        await house.engine.put(new)

        assert (await house.task(ref("new"))).messages == ["new"]


async def test_a_stopped_opa_refuses_and_is_replaced(opa_path: Path, compiler: Compiler) -> None:
    async with House.opened(opa_path, compiler, deadline_s=0.3) as house:
        policy = await house.load(Kind.TASK, 'package a\ndeny contains "no" if true\n')

        stopped = await house.freeze()
        with pytest.raises(OpaUnavailable):
            await house.task(policy)

        async with asyncio.timeout(10):
            while house.opa.pid in (stopped, None):
                await asyncio.sleep(0.05)
            await house.opa.connected()
        assert (await house.task(policy)).messages == ["no"]


ALLOWS = {"kind": "task", "revision": 1, "rules": {"deny": {"type": "set", "value": []}}}


def verdict(**changes: Any) -> dict[str, Any]:
    """Of our OPA on policy `p`: it allows, but for what is changed."""
    return {"instance": "INSTANCE", "verdicts": [{}, {"p": {**ALLOWS, **changes}}]}


RESULTS = [
    True,
    {"allow": True},
    {**verdict(), "instance": "another"},
    {"verdicts": verdict()["verdicts"]},
    {"instance": "INSTANCE"},
    {"instance": "INSTANCE", "verdicts": []},
    {"instance": "INSTANCE", "verdicts": verdict()["verdicts"][1:]},
    {"instance": "INSTANCE", "verdicts": [{}, {}]},
    {"instance": "INSTANCE", "verdicts": [{}, {"p": 1}]},
    {"instance": "INSTANCE", "verdicts": [{}, {"p": {"kind": "task"}}]},
    verdict(kind="access"),
    verdict(revision="1"),
    verdict(revision=0),
    verdict(revision=2),
    verdict(rules={}),
    verdict(rules=[]),
    verdict(rules={"deny": []}),
    verdict(rules={"deny": {"type": "set"}}),
    verdict(rules={"deny": {"type": "set", "value": {}}}),
    verdict(rules={"deny": {"type": "object", "value": {}}}),
]
GARBAGE = [
    b"", b"hello", b"{}", b"[]", b"null", *(json.dumps({"result": result}).encode() for result in RESULTS)
]  # fmt: skip


class Garbage:
    """An HTTP server in OPA's place that takes every change and answers every question with `body`."""

    def __init__(self) -> None:
        self.body = b""
        self.instance = ""
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        if request.method == "GET" and request.path.startswith("/v1/policies"):
            return web.json_response({"result": []})
        if request.path == "/v1/data/interlock" and request.method == "PUT":
            self.instance = (await request.json())["instance"]
            return web.Response(status=204)
        if request.method == "POST":
            body = self.body.replace(b"INSTANCE", self.instance.encode())
            return web.Response(body=body, content_type="application/json")
        return web.json_response({})


@pytest.fixture(scope="module")
async def garbage() -> AsyncIterator[Garbage]:
    garbage = Garbage()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", garbage.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    garbage.port = runner.addresses[0][1]
    yield garbage
    await runner.cleanup()


@pytest.fixture
async def garbled(garbage: Garbage, compiler: Compiler) -> AsyncIterator[PolicyEngine]:
    opa = ExternalOpa(f"http://127.0.0.1:{garbage.port}", deadline_s=0.2)
    engine = PolicyEngine(opa, compiler, sanitizer_key=SANITIZER_KEY, deadline_s=0.2)
    await engine.start([])
    yield engine
    await engine.stop()


@pytest.mark.parametrize("body", GARBAGE)
async def test_garbage_in_place_of_a_verdict_refuses(
    garbage: Garbage, garbled: PolicyEngine, body: bytes
) -> None:
    garbage.body = body

    with pytest.raises((OpaUnavailable, EvaluationFailed, PoliciesChanged)):
        await garbled.decide_task(REQUEST, ADMIN, STACK, "ls", access=(), task=[ref("p")])


async def test_the_verdict_that_the_garbage_is_made_from_allows(
    garbage: Garbage, garbled: PolicyEngine
) -> None:
    garbage.body = json.dumps({"result": verdict()}).encode()

    decision = await garbled.decide_task(REQUEST, ADMIN, STACK, "ls", access=(), task=[ref("p")])

    assert decision.is_allowed
