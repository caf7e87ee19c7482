"""Reports of a runner that cannot be true: each is an error that names what was wrong and what to do, and no change."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from control_plane.ids import new_id
from interlock import types
from interlock.client import Client
from interlock.v1 import runner_service_pb2 as rpc
from tests.e2e.conftest import new_id as new_name
from tests.e2e.test_runner_protocol import assigned, report, result_of
from tests.house import House, watch
from tests.scripted_runner import ScriptedRunner


@pytest.fixture
async def pool(admin: Client) -> str:
    """A pool of its own, so that no other test's runner takes the run."""
    return (await admin.pools.create(new_name("pool"))).id


@pytest.fixture
async def runner(served: House, admin: Client, pool: str) -> AsyncIterator[ScriptedRunner]:
    """Connected."""
    token = await admin.pools.create_token(pool, name="scripted")
    async with ScriptedRunner(served.address, token.credential, new_id("rnr")) as made:
        await made.connect()
        yield made


@pytest.mark.parametrize("what", ["a stale fencing token", "an old assignment"])
@pytest.mark.parametrize("kind", ["gate", "output", "result"])
async def test_a_report_under_another_reference_changes_nothing_and_is_told_to_let_go(
    admin: Client, runner: ScriptedRunner, pool: str, kind: str, what: str
) -> None:
    assignment = await assigned(admin, runner, pool)
    await runner.perform(assignment)
    runner.send(output=report(assignment, 0, b"true"))
    await runner.receive("output_ack")
    before = await admin.runs.get(assignment.assignment.run_id)
    other = rpc.Assignment()
    other.CopyFrom(assignment)
    if what == "a stale fencing token":
        other.assignment.fencing_token -= 1
    else:
        other.assignment.assignment_id = new_id("asg")
    match kind:
        case "gate":
            runner.send(gate=rpc.GateRequest(assignment=other.assignment))
        case "output":
            runner.send(output=report(other, 4, b"false"))
        case "result":
            runner.send(result=result_of(other, b"true", exit_code=1))
    rejected = (await runner.receive("rejected")).rejected
    assert (rejected.reason, rejected.release) == ("FENCED_OUT", True)
    assert other.assignment.assignment_id in rejected.message
    assert "let go of it" in rejected.message
    assert await admin.runs.get(assignment.assignment.run_id) == before
    runner.send(result=result_of(assignment, b"true"))
    seen = await watch(admin, assignment.assignment.run_id)
    assert (seen.state, seen.output) == ("FINISHED", b"true")


@pytest.mark.parametrize(
    ("offset", "data", "words"),
    [
        (2, b"UExyz", "bytes 2 to 4 differ from those stored"),
        (9, b"xyz", "bytes from 9 on, but only 4 are here"),
    ],
    ids=["other bytes in the overlap", "past a gap"],
)
async def test_output_that_cannot_follow_is_refused_with_the_place_to_go_on_from(
    admin: Client, runner: ScriptedRunner, pool: str, offset: int, data: bytes, words: str
) -> None:
    assignment = await assigned(admin, runner, pool)
    await runner.perform(assignment)
    runner.send(output=report(assignment, 0, b"true"))
    await runner.receive("output_ack")
    runner.send(output=report(assignment, offset, data))
    rejected = (await runner.receive("rejected")).rejected
    assert (rejected.reason, rejected.release) == ("OUTPUT_MISMATCH", False)
    assert words in rejected.message
    assert "go on from byte 4" in rejected.message
    runner.send(result=result_of(assignment, b"true"))
    seen = await watch(admin, assignment.assignment.run_id)
    assert (seen.state, seen.output) == ("FINISHED", b"true")


async def test_another_result_for_a_finished_run_changes_nothing(
    admin: Client, runner: ScriptedRunner, pool: str
) -> None:
    assignment = await assigned(admin, runner, pool)
    await runner.perform(assignment)
    runner.send(result=result_of(assignment))
    await runner.receive("result_ack")
    before = await admin.runs.get(assignment.assignment.run_id)
    assert before.state == types.RunState.RUN_STATE_FINISHED
    runner.send(result=result_of(assignment, exit_code=1))
    runner.send(heartbeat=rpc.Heartbeat())
    await runner.receive("result_ack")
    assert await admin.runs.get(assignment.assignment.run_id) == before
