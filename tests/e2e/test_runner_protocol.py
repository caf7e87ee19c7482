"""What the control plane makes of runners that are wrong, old, late, doubled or forged: invariants 1, 2, 4 and 8."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from control_plane.ids import new_id
from interlock import types
from interlock.client import Client
from interlock.v1 import runner_service_pb2 as rpc
from tests.e2e.conftest import new_id as new_name
from tests.e2e.conftest import new_stack
from tests.house import House, reached, watch
from tests.scripted_runner import ScriptedRunner


@pytest.fixture
async def pool(admin: Client) -> str:
    """A pool of its own, so that no other test's runner takes the run."""
    return (await admin.pools.create(new_name("pool"))).id


@pytest.fixture
async def runner(served: House, admin: Client, pool: str) -> AsyncIterator[ScriptedRunner]:
    """Not connected yet."""
    token = await admin.pools.create_token(pool, name="scripted")
    async with ScriptedRunner(served.address, token.credential, new_id("rnr")) as made:
        yield made


async def assigned(client: Client, runner: ScriptedRunner, pool: str) -> rpc.Assignment:
    """A run of a new stack of the pool, accepted by the runner."""
    stack = await new_stack(client, pool_id=pool)
    await client.runs.create_task(stack.id, "true")
    return await runner.take()


async def disconnected(client: Client, pool: str) -> None:
    """Returns once the pool's only runner is."""
    async with asyncio.timeout(60):
        while True:
            async for runner in client.pools.list_runners(pool_id=pool):
                if runner.state == types.RunnerState.RUNNER_STATE_DISCONNECTED:
                    return
            await asyncio.sleep(0.02)


def result_of(assignment: rpc.Assignment, output: bytes = b"", exit_code: int = 0) -> rpc.RunResult:
    return rpc.RunResult(
        assignment=assignment.assignment,
        outcome=rpc.RUN_OUTCOME_EXITED,
        exit_code=exit_code,
        output_size_bytes=len(output),
        output_sha256=hashlib.sha256(output).hexdigest(),
    )


def report(assignment: rpc.Assignment, offset: int, data: bytes) -> rpc.OutputReport:
    return rpc.OutputReport(assignment=assignment.assignment, offset=offset, data=data)


def open_files(pid: int) -> list[str]:
    """Paths of the files that a process has open."""
    return [str(link.resolve()) for link in Path(f"/proc/{pid}/fd").iterdir()]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (
            {"pool_token": "ptk_00000000000000000000000000.wrong"},
            grpc.StatusCode.UNAUTHENTICATED,
            "does not exist",
        ),
        ({"protocol_version": 0}, grpc.StatusCode.FAILED_PRECONDITION, "upgrade the runner"),
        ({"protocol_version": 2}, grpc.StatusCode.FAILED_PRECONDITION, "upgrade the control plane"),
        ({"runner_id": "somebody"}, grpc.StatusCode.INVALID_ARGUMENT, "runner_id"),
        ({"capacity": 0}, grpc.StatusCode.INVALID_ARGUMENT, "capacity"),
    ],
    ids=["wrong token", "older protocol", "newer protocol", "no runner id", "no capacity"],
)
async def test_a_runner_that_does_not_fit_is_told_why(
    runner: ScriptedRunner, change: dict[str, object], code: grpc.StatusCode, words: str
) -> None:
    for name, value in change.items():
        setattr(runner.hello, name, value)
    with pytest.raises(grpc.aio.AioRpcError, match=words) as raised:
        await runner.connect()
    assert raised.value.code() is code


async def test_a_runner_gets_no_run_of_another_pool(admin: Client, runner: ScriptedRunner, pool: str) -> None:
    await runner.connect()
    elsewhere = (await admin.pools.create(new_name("other"))).id
    foreign = await new_stack(admin, pool_id=elsewhere)
    other = await admin.runs.create_task(foreign.id, "true")
    assignment = await assigned(admin, runner, pool)
    assert assignment.assignment.run_id != other.id
    assert (await admin.runs.get(other.id)).waiting.reason == types.WaitReason.WAIT_REASON_NO_RUNNER


async def test_a_runner_cannot_come_back_with_another_pools_token(
    served: House, admin: Client, runner: ScriptedRunner
) -> None:
    await runner.connect()
    token = await admin.pools.create_token("public", name="another pool")
    async with ScriptedRunner(served.address, token.credential, runner.hello.runner_id) as moved:
        with pytest.raises(grpc.aio.AioRpcError, match="belongs to pool"):
            await moved.connect()


async def test_a_runner_whose_token_is_revoked_is_disconnected(
    admin: Client, runner: ScriptedRunner, pool: str
) -> None:
    await runner.connect()
    [token] = [token async for token in admin.pools.list_tokens(pool)]
    await admin.pools.revoke_token(token.id)
    with pytest.raises((grpc.aio.AioRpcError, AssertionError)):
        await runner.receive("assignment")


async def test_a_report_for_a_run_of_another_runner_is_rejected_and_changes_nothing(
    served: House, admin: Client, runner: ScriptedRunner, pool: str
) -> None:
    await runner.connect()
    assignment = await assigned(admin, runner, pool)
    token = await admin.pools.create_token(pool, name="forger")
    async with ScriptedRunner(served.address, token.credential, new_id("rnr")) as forger:
        await forger.connect()
        forger.send(gate=rpc.GateRequest(assignment=assignment.assignment))
        rejected = (await forger.receive("rejected")).rejected
        forger.send(result=result_of(assignment))
        await forger.receive("rejected")
    assert (rejected.reason, rejected.release) == ("FENCED_OUT", True)
    run = await admin.runs.get(assignment.assignment.run_id)
    assert run.state == types.RunState.RUN_STATE_PREPARING


async def test_the_gate_asked_twice_answers_twice_and_opens_once(
    admin: Client, runner: ScriptedRunner, pool: str
) -> None:
    await runner.connect()
    assignment = await assigned(admin, runner, pool)
    await runner.perform(assignment)
    await runner.perform(assignment)
    run = await admin.runs.get(assignment.assignment.run_id)
    assert [change.state for change in run.history].count(types.RunState.RUN_STATE_PERFORMING) == 1


async def test_output_sent_twice_is_stored_once(admin: Client, runner: ScriptedRunner, pool: str) -> None:
    await runner.connect()
    assignment = await assigned(admin, runner, pool)
    await runner.perform(assignment)
    for offset, data in [(0, b"abcdef"), (0, b"abcdef"), (3, b"defghi"), (6, b"ghi")]:
        runner.send(output=report(assignment, offset, data))
    runner.send(result=result_of(assignment, b"abcdefghi"))
    await runner.receive("result_ack")
    assert (await watch(admin, assignment.assignment.run_id)).output == b"abcdefghi"


async def test_a_gap_in_the_output_is_rejected_with_the_place_to_go_on_from(
    admin: Client, runner: ScriptedRunner, pool: str
) -> None:
    await runner.connect()
    assignment = await assigned(admin, runner, pool)
    await runner.perform(assignment)
    runner.send(output=report(assignment, 0, b"abc"))
    runner.send(output=report(assignment, 5, b"fgh"))
    rejected = (await runner.receive("rejected")).rejected
    assert (rejected.reason, rejected.acknowledged_offset, rejected.release) == ("OUTPUT_MISMATCH", 3, False)


async def test_a_result_is_not_taken_before_all_its_output_is_stored(
    admin: Client, runner: ScriptedRunner, pool: str
) -> None:
    await runner.connect()
    assignment = await assigned(admin, runner, pool)
    await runner.perform(assignment)
    runner.send(output=report(assignment, 0, b"half of "))
    runner.send(result=result_of(assignment, b"half of it"))
    assert (await runner.receive("rejected")).rejected.reason == "OUTPUT_MISMATCH"
    run_id = assignment.assignment.run_id
    assert (await admin.runs.get(run_id)).state == types.RunState.RUN_STATE_PERFORMING
    runner.send(output=report(assignment, 8, b"it"))
    runner.send(result=result_of(assignment, b"half of it"))
    await runner.receive("result_ack")
    assert (await watch(admin, run_id)).output == b"half of it"


async def test_a_result_sent_again_is_acknowledged_again(
    admin: Client, runner: ScriptedRunner, pool: str
) -> None:
    await runner.connect()
    assignment = await assigned(admin, runner, pool)
    await runner.perform(assignment)
    for _ in range(2):
        runner.send(result=result_of(assignment))
        await runner.receive("result_ack")


async def test_a_runner_that_comes_back_hears_what_to_do_with_each_run_it_holds(
    served: House, admin: Client, runner: ScriptedRunner, pool: str
) -> None:
    await runner.connect()
    performing = await assigned(admin, runner, pool)
    await runner.perform(performing)
    runner.send(output=report(performing, 0, b"stored"))
    await runner.receive("output_ack")
    stale = rpc.AssignmentRef(run_id=new_id("run"), assignment_id=new_id("asg"), fencing_token=1)
    async with ScriptedRunner(served.address, runner.hello.pool_token, runner.hello.runner_id) as again:
        again.hello.held.add(assignment=performing.assignment, container_present=True)
        again.hello.held.add(assignment=stale)
        verdicts = {verdict.assignment.assignment_id: verdict for verdict in (await again.connect()).held}
    kept, released = verdicts[performing.assignment.assignment_id], verdicts[stale.assignment_id]
    assert (kept.action, kept.gate_open, kept.acknowledged_offset) == (rpc.HELD_ACTION_CONTINUE, True, 6)
    assert kept.acknowledged_sha256 == hashlib.sha256(b"stored").hexdigest()
    assert kept.job == performing.job
    assert released.action == rpc.HELD_ACTION_RELEASE


async def test_a_new_boot_proves_that_a_performing_command_is_gone(
    served: House, admin: Client, runner: ScriptedRunner, pool: str
) -> None:
    """Invariant 3: only proof ends it."""
    await runner.connect()
    assignment = await assigned(admin, runner, pool)
    await runner.perform(assignment)
    run_id = assignment.assignment.run_id
    async with ScriptedRunner(served.address, runner.hello.pool_token, runner.hello.runner_id) as forgetful:
        await forgetful.connect()
        assert (await admin.runs.get(run_id)).state == types.RunState.RUN_STATE_PERFORMING
    await disconnected(admin, pool)
    async with ScriptedRunner(served.address, runner.hello.pool_token, runner.hello.runner_id) as rebooted:
        rebooted.hello.boot_id = "boot-2"
        await rebooted.connect()
        run = await admin.runs.get(run_id)
    assert (run.state, run.failure) == (
        types.RunState.RUN_STATE_FAILED,
        types.RunFailure.RUN_FAILURE_CONTAINER_LOST,
    )


async def test_what_a_lost_run_wrote_is_on_record_and_its_file_is_closed(
    served: House, admin: Client, runner: ScriptedRunner, pool: str
) -> None:
    await runner.connect()
    assignment = await assigned(admin, runner, pool)
    run_id = assignment.assignment.run_id
    runner.send(output=report(assignment, 0, b"what init wrote"))
    await runner.receive("output_ack")
    async with ScriptedRunner(served.address, runner.hello.pool_token, runner.hello.runner_id) as forgetful:
        await forgetful.connect()
        seen = await watch(admin, run_id, offset=5)
    assert (seen.state, seen.output) == ("FAILED", b"init wrote")
    assert seen.run.output_size_bytes == len(b"what init wrote")
    assert seen.run.output_sha256 == hashlib.sha256(b"what init wrote").hexdigest()
    assert [path for path in open_files(served.server.pid) if run_id in path] == []


async def test_a_stop_reaches_the_runner_and_the_gate_stays_shut(
    admin: Client, runner: ScriptedRunner, pool: str
) -> None:
    await runner.connect()
    assignment = await assigned(admin, runner, pool)
    run_id = assignment.assignment.run_id
    await reached(admin, run_id, "PREPARING")
    await admin.runs.stop(run_id)
    await runner.receive("stop")
    runner.send(gate=rpc.GateRequest(assignment=assignment.assignment))
    assert not (await runner.receive("gate")).gate.go
    stopped = result_of(assignment)
    stopped.outcome = rpc.RUN_OUTCOME_STOPPED
    stopped.ClearField("exit_code")
    runner.send(result=stopped)
    await runner.receive("result_ack")
    assert (await admin.runs.get(run_id)).state == types.RunState.RUN_STATE_STOPPED


async def test_a_second_stream_of_one_runner_ends_the_first(served: House, runner: ScriptedRunner) -> None:
    await runner.connect()
    async with ScriptedRunner(served.address, runner.hello.pool_token, runner.hello.runner_id) as second:
        await second.connect()
        with pytest.raises((grpc.aio.AioRpcError, AssertionError), match=r"took over|ALREADY_EXISTS"):
            await runner.receive("assignment")


async def test_the_archive_of_a_run_is_only_for_runners_of_its_pool(
    served: House, admin: Client, runner: ScriptedRunner, pool: str
) -> None:
    await runner.connect()
    assignment = await assigned(admin, runner, pool)
    foreign = await admin.pools.create_token("public", name="foreign")
    async with grpc.aio.insecure_channel(served.address) as channel:
        fetch: Any = channel.unary_stream("/interlock.v1.RunnerService/FetchSource")
        request = rpc.FetchSourceRequest(assignment=assignment.assignment).SerializeToString()
        call = fetch(request, metadata=(("authorization", f"Bearer {foreign.credential}"),))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
