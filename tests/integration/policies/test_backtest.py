"""Recorded decisions again, by the real OPA, on both databases."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from control_plane import errors, ids
from control_plane.clock import to_timestamp
from control_plane.identity.principal import Principal
from control_plane.ids import DecisionId
from control_plane.keys import MasterKey, Sealer
from control_plane.paging import PageTokens
from control_plane.policies import backtest, inputs, records
from control_plane.policies import decisions as decided
from control_plane.policies.attached import AttachmentIndex
from control_plane.policies.backtest import Backtests
from control_plane.policies.combine import Evaluation, RuleValue
from control_plane.policies.decision_log import DecisionLog
from control_plane.policies.errors import EvaluationFailed, PolicyRefused
from control_plane.policies.guard import PolicyGuard
from control_plane.policies.records import DecisionRecord
from control_plane.policies.tasks import TaskJudge
from control_plane.policies.trial import GivenUp, Trial
from control_plane.stacks.access import Access
from control_plane.stacks.secrets import StackSecrets
from control_plane.storage.database import Database
from control_plane.storage.tables import metadata
from interlock.v1 import backtest_pb2, policy_pb2
from interlock.v1 import policy_service_pb2 as rpc
from policies.workbench.compiler import Compiler
from policies.workbench.kinds import Kind
from tests.integration.policies.house import ANN, DENY_NOTHING, REQUEST, SANITIZER_KEY, House, ref

MASTER = MasterKey(b"k" * 32)
ADMIN = Principal(id="key_1", login="root", name="Root", admin=True)
NO_APPLY = 'package p\n\ndeny contains sprintf("no %s", [request.command]) if request.command == "apply"\n'
# Errs where the command is no number, with the rule in line 3.
FRAGILE = 'package p\n\ndeny contains "negative" if to_number(request.command) < 0\n'
ENDLESS = """package p

deny contains "x" if count([1 | some a in numbers.range(1, 9999); some b in numbers.range(1, 9999); a * b == 7]) > 5
"""
# A gigabyte, in a moment: twice as long each time.
HUNGRY = """package p

deny contains "x" if {
	x0 := request.command
{doublings}
	x30 == "x"
}
""".replace("{doublings}", "\n".join(f'\tx{n + 1} := concat("", [x{n}, x{n}])' for n in range(30)))
# On one command alone.
SOMETIMES_ENDLESS = ENDLESS.replace('"x" if ', '"x" if request.command == "apply"; ').replace(
    'contains "x" if request.command == "apply"; ', 'contains "x" if { request.command == "apply"; '
).rstrip() + " }\n"  # fmt: skip


def task(command: str, *deny: str, stack: str = "web", labels: Sequence[str] = ("blue",)) -> DecisionRecord:
    """A task that policy `a` judged."""
    stack_info = inputs.StackInfo(id=stack, name=stack, labels=labels)
    said = Evaluation(ref("a"), {"deny": RuleValue("set", list(deny))})
    return DecisionRecord(
        kind="task",
        stack_id=stack,
        caller_login=ANN.login,
        is_allowed=not deny,
        document=inputs.task_input(REQUEST, ANN, stack_info, command),
        policies=decided.said_by(Kind.TASK, [said]),
        result={"allowed": not deny, "messages": list(deny), "access": "write"},
        took_us=1500,
    )


class Bench:
    """A database with decisions in it, and backtests over them."""

    def __init__(self, db: Database, house: House) -> None:
        self.db = db
        index = AttachmentIndex(db)
        judge = TaskJudge(house.engine, index, StackSecrets(db, Sealer(MASTER)))
        guard = PolicyGuard(db, house.engine, index, judge)
        log = DecisionLog(db, house.engine, guard, PageTokens(MASTER))
        self.backtests = Backtests(db, house.engine, log, Access(db, guard))

    async def record(self, *made: DecisionRecord) -> list[str]:
        def unit(tx: sa.Connection) -> None:
            for each in made:
                records.insert(tx, each)

        await self.db.write(unit)
        return [each.id for each in made]

    async def run(self, body: str, *, caller: Principal = ADMIN, **fields: Any) -> Outcome:
        fields.setdefault("kind", policy_pb2.POLICY_KIND_TASK)
        request = rpc.BacktestPolicyRequest(body=body, file_name="new.rego", **fields)
        events = [each async for each in self.backtests.run(caller, request)]
        assert events[0].HasField("progress")
        assert events[-1].HasField("report")
        return Outcome(events)

    async def contents(self) -> dict[str, list[Any]]:
        """All that is stored."""
        return await self.db.read(
            lambda tx: {
                table.name: sorted(map(repr, tx.execute(sa.select(table)).all()))
                for table in metadata.tables.values()
            }
        )


class Outcome:
    def __init__(self, events: Sequence[rpc.BacktestPolicyResponse]) -> None:
        self.changes = [each.change for each in events if each.HasField("change")]
        self.report = events[-1].report

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Evaluated, newly denied, newly allowed, errors."""
        report = self.report
        return report.decisions, report.newly_denied, report.newly_allowed, report.errors


@pytest.fixture
def bench(db: Database, house: House) -> Bench:
    return Bench(db, house)


async def test_every_decision_is_evaluated_again_and_the_changes_are_told(bench: Bench) -> None:
    ids = await bench.record(*(task("apply" if number % 100 == 7 else "plan") for number in range(600)))
    outcome = await bench.run(NO_APPLY)
    assert outcome.counts == (600, 6, 0, 0)
    assert [each.decision_id for each in outcome.changes] == ids[7::100]
    first = outcome.changes[0]
    assert (first.was, first.would_be, list(first.messages)) == ("allowed", "denied", ["no apply"])
    assert backtest_pb2.BACKTEST_EFFECT_NEWLY_DENIED in first.effects
    assert [(each.subject, each.newly_denied) for each in outcome.report.messages] == [("no apply", 6)]


async def test_in_place_of_a_policy_its_part_is_the_texts(bench: Bench, compiler: Compiler) -> None:
    await bench.record(task("plan", "no plans"), task("apply"))
    await bench.db.write(lambda tx: insert_policy(tx, "a", "task"))
    outcome = await bench.run(NO_APPLY, kind=0, replaces_policy_id="a")
    assert outcome.counts == (2, 1, 1, 0)
    assert {tuple(each.messages) for each in outcome.changes} == {("no plans",), ("no apply",)}
    with pytest.raises(errors.InvalidField, match="kind task"):
        await bench.run(NO_APPLY, kind=policy_pb2.POLICY_KIND_ACCESS, replaces_policy_id="a")
    with pytest.raises(errors.NotFound):
        await bench.run(NO_APPLY, replaces_policy_id="never")


async def test_an_error_on_some_inputs_hides_no_others_answer(bench: Bench) -> None:
    await bench.record(*(task("bad" if number % 50 == 3 else str(49 - number)) for number in range(200)))
    outcome = await bench.run(FRAGILE)
    assert outcome.counts == (200, 151, 0, 4)
    broken = [each for each in outcome.changes if backtest_pb2.BACKTEST_EFFECT_ERROR in each.effects]
    assert all(each.would_be == "failed" for each in broken)
    assert broken[0].messages[0].startswith("line 3: eval_builtin_error: to_number")


async def test_only_decisions_of_the_stack_the_label_and_the_time_are_evaluated(bench: Bench) -> None:
    await bench.record(task("apply"), task("apply", labels=["green"]), task("apply", stack="db"))
    assert (await bench.run(NO_APPLY)).report.decisions == 3
    assert (await bench.run(NO_APPLY, label="green")).counts == (1, 1, 0, 0)
    with pytest.raises(errors.NotFound):
        await bench.run(NO_APPLY, stack_id="never-made")
    hour_us = 3_600_000_000
    last_year = [
        dataclasses.replace(task("apply"), id=DecisionId(ids.first_id("dec", at)), decided_at=at)
        for at in (1_700_000_000_000_000, 1_700_000_000_000_000 + hour_us)
    ]
    await bench.record(*last_year)
    assert (await bench.run(NO_APPLY)).report.decisions == 5
    since = to_timestamp(last_year[0].decided_at + hour_us // 2)
    outcome = await bench.run(NO_APPLY, since=since)
    assert outcome.report.decisions == 4
    assert outcome.changes[0].decision_id == last_year[1].id


async def test_access_is_tried_on_the_tasks_that_it_let_pass(bench: Bench) -> None:
    made = task("plan")
    said = Evaluation(ref("w"), {"write": RuleValue(type="boolean", value=True)})
    await bench.record(
        DecisionRecord(**{**vars(made), "policies": [*decided.said_by(Kind.ACCESS, [said]), *made.policies]})
    )
    body = 'package p\n\ndeny_write if { not input.request["command"]; session.login == "ann" }\n'
    outcome = await bench.run(
        body.replace('not input.request["command"]; ', ""), kind=policy_pb2.POLICY_KIND_ACCESS
    )
    assert outcome.counts == (1, 1, 0, 0)
    assert (outcome.changes[0].was, outcome.changes[0].would_be) == ("write", "read")


async def test_progress_counts_what_was_read_of_all_that_there_is(bench: Bench) -> None:
    await bench.record(*(task("plan", stack="db" if number % 2 else "web") for number in range(700)))
    request = rpc.BacktestPolicyRequest(body=NO_APPLY, label="blue")
    first, *_, report = [each async for each in bench.backtests.run(ADMIN, request)]
    assert (first.progress.read, first.progress.total) == (0, 700)
    assert report.report.decisions == 700


async def test_nothing_is_written_and_nothing_is_left(bench: Bench) -> None:
    await bench.record(task("apply"), task("plan"))
    before, processes = await bench.contents(), children()
    await bench.run(NO_APPLY)
    await bench.run(FRAGILE)
    assert await bench.contents() == before
    assert children() == processes


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_nothing_is_left_of_a_backtest_whose_caller_goes_away(bench: Bench) -> None:
    await bench.record(task("plan"))
    processes, before = children(), opas()
    request = rpc.BacktestPolicyRequest(body=ENDLESS)
    leaving = asyncio.create_task(drain(bench.backtests.run(ADMIN, request)))
    while len(opas()) == len(before):
        await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert children() == processes


async def test_a_caller_sees_only_what_they_may_read_and_no_logins(bench: Bench) -> None:
    stranger = Principal(id="key_2", login="eve", name="Eve")
    with pytest.raises(errors.NotAllowed):
        await bench.run("package p\n\nallow := true\n", caller=stranger, kind=policy_pb2.POLICY_KIND_LOGIN)


async def test_a_text_that_would_be_refused_as_an_upload_is_refused(bench: Bench) -> None:
    with pytest.raises(PolicyRefused, match=r"new\.rego:3:"):
        await bench.run("package p\n\ndeny contains x if x := input.sesion.login\n")
    with pytest.raises(PolicyRefused, match="do not say of which kind"):
        await bench.run("package p\n\ndeny := true\n", kind=0)


async def test_the_kind_may_be_what_the_text_says(bench: Bench) -> None:
    await bench.record(task("apply"))
    assert (await bench.run(NO_APPLY, kind=0)).counts == (1, 1, 0, 0)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_text_that_never_ends_is_given_up_by_name_while_others_are_decided(
    bench: Bench, house: House
) -> None:
    ids = await bench.record(*(task("plan") for _ in range(10)))
    policy = await house.load(Kind.TASK, DENY_NOTHING)
    serving = house.opa.pid
    request = rpc.BacktestPolicyRequest(body=ENDLESS, file_name="new.rego", kind=policy_pb2.POLICY_KIND_TASK)
    giving_up = asyncio.create_task(drain(bench.backtests.run(ADMIN, request)))
    decided_meanwhile = 0
    while not (await asyncio.wait({giving_up}, timeout=0.05))[0]:
        assert (await house.task(policy, command="ls")).is_allowed
        decided_meanwhile += 1
    assert decided_meanwhile > 10
    with pytest.raises(EvaluationFailed, match=r"more than 1\.5 s") as raised:
        await giving_up
    assert raised.value.policy_name == "new.rego"
    assert ids[2] in raised.value.cause
    assert house.opa.pid == serving


async def test_memory_is_limited_however_much_time_there_is(opa_path: Path, compiler: Compiler) -> None:
    policy = await compiler.compile(Kind.TASK, HUNGRY, "new.rego")
    async with Trial.opened(
        opa_path, policy, "new.rego", sanitizer_key=SANITIZER_KEY, deadline_s=60
    ) as trial:
        with pytest.raises(GivenUp, match="it takes more than 512 MiB of memory"):
            await trial.answers([json.dumps(task("plan").document)] * 3)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_one_input_that_takes_too_long_is_an_error_of_its_own(bench: Bench) -> None:
    ids = await bench.record(task("plan"), task("apply"), *(task("plan") for _ in range(20)))
    outcome = await bench.run(SOMETIMES_ENDLESS)
    assert outcome.counts == (22, 1, 0, 1)
    assert [each.decision_id for each in outcome.changes if 3 in each.effects] == [ids[1]]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_takes_long_is_told_as_slower(bench: Bench) -> None:
    await bench.record(task("apply"), task("plan"))
    slow = ENDLESS.replace("9999", "320").replace("> 5", "> 9")
    outcome = await bench.run(slow)
    assert outcome.report.errors == 0
    assert outcome.report.slower == 2
    assert all(each.evaluation_us > 20_000 for each in outcome.changes)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_end_of_the_server_ends_a_backtest_with_a_word(bench: Bench) -> None:
    await bench.record(task("plan"))
    bench.backtests.close()
    with pytest.raises(errors.ShuttingDown):
        await bench.run(NO_APPLY)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_callers_who_do_not_read_keep_nobody_from_a_turn(bench: Bench) -> None:
    await bench.record(*(task("apply") for _ in range(300)))
    request = rpc.BacktestPolicyRequest(body=NO_APPLY, kind=policy_pb2.POLICY_KIND_TASK, max_changes=1000)
    idle = [bench.backtests.run(ADMIN, request) for _ in range(2)]
    for each in idle:
        assert [(await anext(each)).WhichOneof("event") for _ in range(2)] == ["progress", "change"]
    async with asyncio.timeout(60):
        assert (await bench.run(NO_APPLY)).counts == (300, 300, 0, 0)
    for each in idle:
        await each.aclose()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_backtest_that_nobody_reads_is_ended_with_the_reason(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backtest, "_UNREAD", 2)
    monkeypatch.setattr(backtest, "_STALLED_S", 0.1)
    await bench.record(*(task("apply") for _ in range(300)))
    request = rpc.BacktestPolicyRequest(body=NO_APPLY, kind=policy_pb2.POLICY_KIND_TASK, max_changes=1000)
    unread = bench.backtests.run(ADMIN, request)
    await anext(unread)
    await anext(unread)
    assert (await bench.run(NO_APPLY)).counts == (300, 300, 0, 0)
    with pytest.raises(backtest.CallerStalled, match="was not read"):
        await drain(unread)


async def drain(events: AsyncIterator[rpc.BacktestPolicyResponse]) -> None:
    async for _ in events:
        pass


def insert_policy(tx: sa.Connection, policy_id: str, kind: str) -> None:
    tx.execute(
        sa.insert(metadata.tables["policies"]),
        {
            "id": policy_id, "name": policy_id, "description": "", "kind": kind, "body": "", "module": "",
            "rego_version": 2, "labels": [], "revision": 1, "version": 1, "created_at": 0, "updated_at": 0,
        },
    )  # fmt: skip


def children() -> list[int]:
    return sorted(child.pid for child in psutil.Process().children(recursive=True))


def opas() -> list[int]:
    """Of the children, those that are an OPA by now."""
    found = []
    for pid in children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).name() == "opa":
                found.append(pid)
    return found
