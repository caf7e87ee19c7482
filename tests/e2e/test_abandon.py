"""AbandonRun: an admin answers for a run that nobody can reach; what its runner reports later is evidence and no more."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator

import pytest

from control_plane.ids import new_id
from interlock import errors, types
from interlock.client import Client
from interlock.v1 import runner_service_pb2 as rpc
from tests.e2e.conftest import new_id as new_name
from tests.e2e.conftest import new_stack
from tests.house import House, watch
from tests.scripted_runner import ScriptedRunner

BEFORE, AFTER = b"before\n", b"after\n"
WHY = "its machine burnt down"


@pytest.fixture
async def pool(admin: Client) -> str:
    """A pool of its own, so that no other test's runner takes the run."""
    return (await admin.pools.create(new_name("pool"))).id


@pytest.fixture
async def runner(served: House, admin: Client, pool: str) -> AsyncIterator[ScriptedRunner]:
    token = await admin.pools.create_token(pool, name="scripted")
    async with ScriptedRunner(served.address, token.credential, new_id("rnr")) as made:
        await made.connect()
        yield made


async def performing(client: Client, runner: ScriptedRunner, pool: str) -> rpc.Assignment:
    """A run past its gate, with BEFORE as its output, durable."""
    stack = await new_stack(client, pool_id=pool)
    await client.runs.create_task(stack.id, "true")
    assignment = await runner.take()
    await runner.perform(assignment)
    runner.send(output=rpc.OutputReport(assignment=assignment.assignment, offset=0, data=BEFORE))
    await runner.receive("output_ack")
    return assignment


async def unreachable(client: Client, run_id: str) -> types.Run:
    async for event in client.runs.follow(run_id, output=False):
        if isinstance(event, types.Run) and event.HasField("unreachable_since"):
            return event
    raise AssertionError(f"{run_id} ended and its runner was never missed")


async def abandoned(client: Client, runner: ScriptedRunner, pool: str) -> tuple[rpc.Assignment, types.Run]:
    """A run whose runner was cut off after the gate, and which an admin has given up."""
    assignment = await performing(client, runner, pool)
    runner.disconnect()
    run_id = assignment.assignment.run_id
    await unreachable(client, run_id)
    return assignment, await client.runs.abandon(run_id, reason=WHY)


async def back(runner: ScriptedRunner, assignment: rpc.Assignment) -> rpc.HeldVerdict:
    """The runner dials again, with the run in its journal; what it is told about it."""
    runner.hello.held.add(
        assignment=assignment.assignment, phase=types.RunState.RUN_STATE_PERFORMING, container_present=True
    )
    [verdict] = (await runner.connect()).held
    return verdict


def result_of(assignment: rpc.Assignment, output: bytes, exit_code: int) -> rpc.RunResult:
    return rpc.RunResult(
        assignment=assignment.assignment,
        outcome=rpc.RUN_OUTCOME_EXITED,
        exit_code=exit_code,
        output_size_bytes=len(output),
        output_sha256=hashlib.sha256(output).hexdigest(),
    )


async def audited(client: Client, run_id: str, action: str) -> types.AuditEvent:
    [event] = [event async for event in client.audit.list(resource_id=run_id) if event.action == action]
    return event


async def test_an_abandoned_run_fails_with_the_reason_and_its_slot_goes_to_the_next_under_a_higher_token(
    admin: Client, runner: ScriptedRunner, pool: str
) -> None:
    assignment, run = await abandoned(admin, runner, pool)
    assert (run.state, run.failure) == (
        types.RunState.RUN_STATE_FAILED,
        types.RunFailure.RUN_FAILURE_ABANDONED,
    )
    assert WHY in run.state_reason
    stack = await admin.stacks.get(run.stack_id)
    assert (stack.active_run_id, stack.fencing_token) == ("", assignment.assignment.fencing_token + 1)
    await runner.connect()
    await admin.runs.create_task(run.stack_id, "true")
    assert (await runner.take()).assignment.fencing_token > stack.fencing_token
    event = await audited(admin, run.id, "run.abandoned")
    assert json.loads(event.details_json)["reason"] == WHY


async def test_what_the_old_runner_reports_later_is_kept_as_evidence_and_changes_nothing_else(
    served: House, admin: Client, runner: ScriptedRunner, pool: str
) -> None:
    old, run = await abandoned(admin, runner, pool)
    token = await admin.pools.create_token(pool, name="another")
    async with ScriptedRunner(served.address, token.credential, new_id("rnr")) as other:
        await other.connect()
        following = await admin.runs.create_task(run.stack_id, "true")
        await other.perform(await other.take())
        verdict = await back(runner, old)
        assert (verdict.action, verdict.acknowledged_offset) == (rpc.HELD_ACTION_CONTINUE, len(BEFORE))
        assert verdict.job.command == "true"
        runner.send(output=rpc.OutputReport(assignment=old.assignment, offset=len(BEFORE), data=AFTER))
        runner.send(result=result_of(old, BEFORE + AFTER, exit_code=7))
        assert (await runner.receive("result_ack")).result_ack.assignment == old.assignment
        assert (await admin.stacks.get(run.stack_id)).active_run_id == following.id
    later = await admin.runs.get(run.id)
    evidence = later.late_evidence
    assert (evidence.exit_code, evidence.output_size_bytes) == (7, len(AFTER))
    assert evidence.HasField("report_time")
    assert [chunk.data async for chunk in admin.runs.late_output(run.id)] == [AFTER]
    later.ClearField("late_evidence")
    assert later == run
    assert (await watch(admin, run.id)).output == BEFORE
    assert json.loads((await audited(admin, run.id, "run.late_result")).details_json)["exit_code"] == 7


async def test_an_abandoned_run_that_had_not_got_its_go_is_never_told_to_perform(
    admin: Client, runner: ScriptedRunner, pool: str
) -> None:
    assignment, _ = await abandoned(admin, runner, pool)
    await back(runner, assignment)
    runner.send(gate=rpc.GateRequest(assignment=assignment.assignment))
    assert not (await runner.receive("gate")).gate.go


async def test_a_forged_reference_to_an_abandoned_run_adds_no_evidence(
    admin: Client, runner: ScriptedRunner, pool: str
) -> None:
    assignment, run = await abandoned(admin, runner, pool)
    assignment.assignment.fencing_token += 1
    verdict = await back(runner, assignment)
    assert verdict.action == rpc.HELD_ACTION_RELEASE
    assert "is not current" in verdict.reason
    assert not (await admin.runs.get(run.id)).HasField("late_evidence")


async def test_evidence_is_taken_once(admin: Client, runner: ScriptedRunner, pool: str) -> None:
    assignment, run = await abandoned(admin, runner, pool)
    await back(runner, assignment)
    runner.send(result=result_of(assignment, BEFORE, exit_code=0))
    await runner.receive("result_ack")
    runner.disconnect()
    del runner.hello.held[:]
    verdict = await back(runner, assignment)
    assert verdict.action == rpc.HELD_ACTION_RELEASE
    assert (await admin.runs.get(run.id)).late_evidence.exit_code == 0


async def test_a_run_whose_runner_is_in_reach_is_only_abandoned_by_force_and_then_still_reports(
    admin: Client, runner: ScriptedRunner, pool: str
) -> None:
    assignment = await performing(admin, runner, pool)
    run_id = assignment.assignment.run_id
    with pytest.raises(errors.WrongState, match="in reach"):
        await admin.runs.abandon(run_id, reason=WHY)
    watching = asyncio.create_task(watch(admin, run_id))
    run = await admin.runs.abandon(run_id, reason=WHY, force=True)
    assert run.HasField("late_evidence")
    runner.send(
        output=rpc.OutputReport(assignment=assignment.assignment, offset=len(BEFORE), data=AFTER),
    )
    runner.send(result=result_of(assignment, BEFORE + AFTER, exit_code=0))
    await runner.receive("result_ack")
    assert (await watching).run.failure == types.RunFailure.RUN_FAILURE_ABANDONED
    assert (await admin.runs.get(run_id)).late_evidence.output_size_bytes == len(AFTER)


async def test_a_run_before_its_gate_or_over_is_not_abandoned(
    admin: Client, runner: ScriptedRunner, pool: str
) -> None:
    stack = await new_stack(admin, pool_id=pool)
    run = await admin.runs.create_task(stack.id, "true")
    assignment = await runner.take()
    with pytest.raises(errors.WrongState, match="stop it instead"):
        await admin.runs.abandon(run.id, reason=WHY, force=True)
    await runner.perform(assignment)
    runner.send(result=result_of(assignment, b"", exit_code=0))
    await runner.receive("result_ack")
    with pytest.raises(errors.WrongState, match="is over"):
        await admin.runs.abandon(run.id, reason=WHY, force=True)
    with pytest.raises(errors.WrongState, match="was not abandoned"):
        [chunk async for chunk in admin.runs.late_output(run.id)]


async def test_nobody_abandons_without_a_reason(admin: Client, runner: ScriptedRunner, pool: str) -> None:
    run_id = (await performing(admin, runner, pool)).assignment.run_id
    with pytest.raises(errors.InvalidArgument, match="reason"):
        await admin.runs.abandon(run_id, reason=" ", force=True)
    assert (await admin.runs.get(run_id)).state == types.RunState.RUN_STATE_PERFORMING
