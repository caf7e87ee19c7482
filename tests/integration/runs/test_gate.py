"""Invariant 2: a command is performed at most once; only the control plane opens the gate, never for a stopped run."""

import pytest
import sqlalchemy as sa

from control_plane.runs import progress, reach
from control_plane.runs import stop as stopping
from control_plane.runs.errors import WrongState
from control_plane.runs.states import RunState
from control_plane.storage import tables
from interlock.v1 import runner_service_pb2 as rpc
from tests.integration.runs.conftest import ADA, RUNNER, World
from tests.integration.runs.test_slot import EMPTY_SHA256


async def stop(world: World, run_id: str) -> stopping.Stop:
    return await world.db.write(lambda tx: stopping.stop(tx, stopping.find(tx, run_id), ADA))


async def ask_gate(world: World, ref: rpc.AssignmentRef) -> progress.Gate:
    return await world.db.write(lambda tx: progress.ask_gate(tx, ref, RUNNER))


async def test_the_gate_opens_for_the_current_assignment(world: World) -> None:
    run = await world.queue()
    ref = await world.assign(run)
    gate = await ask_gate(world, ref)
    assert gate.go
    assert await world.state(run) is RunState.PERFORMING


async def test_the_gate_asked_again_says_go_again_and_changes_nothing(world: World) -> None:
    run = await world.queue()
    ref = await world.assign(run)
    await ask_gate(world, ref)
    before = await world.row(run)
    again = await ask_gate(world, ref)
    assert (again.go, again.moved) == (True, False)
    assert await world.row(run) == before


async def test_the_gate_stays_shut_for_a_run_that_somebody_stopped(world: World) -> None:
    run = await world.queue()
    ref = await world.assign(run)
    await stop(world, run)
    assert not (await ask_gate(world, ref)).go
    assert await world.state(run) is not RunState.PERFORMING


async def test_a_run_that_performs_cannot_be_stopped(world: World) -> None:
    run = await world.queue()
    ref = await world.assign(run)
    await ask_gate(world, ref)
    with pytest.raises(WrongState, match="performing since"):
        await stop(world, run)
    assert not (await world.row(run)).stop_requested


async def test_a_stopped_run_becomes_stopped_when_its_container_is_gone(world: World) -> None:
    run = await world.queue()
    ref = await world.assign(run)
    await stop(world, run)
    report = rpc.RunResult(assignment=ref, outcome=rpc.RUN_OUTCOME_STOPPED, output_sha256=EMPTY_SHA256)
    await world.db.write(lambda tx: progress.result(tx, report, RUNNER))
    assert (await world.state(run), await world.holder()) == (RunState.STOPPED, None)


async def test_a_queued_run_that_is_stopped_is_discarded_and_leaves_the_queue(world: World) -> None:
    run = await world.queue()
    await stop(world, run)
    assert await world.state(run) is RunState.DISCARDED
    assert await world.startable() == []


async def test_a_run_lost_before_its_gate_fails_and_frees_the_slot(world: World) -> None:
    run = await world.queue()
    ref = await world.assign(run)
    await world.db.write(lambda tx: progress.accepted(tx, ref, RUNNER))
    await world.db.write(lambda tx: reach.give_up(tx, stopping.find(tx, run), "gone"))
    assert (await world.state(run), await world.holder()) == (RunState.FAILED, None)


async def test_a_run_that_no_runner_had_accepted_goes_back_to_the_queue(world: World) -> None:
    run = await world.queue()
    await world.assign(run)
    await world.db.write(lambda tx: reach.give_up(tx, stopping.find(tx, run), "gone"))
    assert (await world.state(run), await world.holder()) == (RunState.QUEUED, None)
    assert await world.startable() == [run]


async def test_a_run_back_in_the_queue_gets_a_new_assignment_and_a_higher_fencing_token(world: World) -> None:
    run = await world.queue()
    old = await world.assign(run)
    await world.db.write(lambda tx: reach.give_up(tx, stopping.find(tx, run), "gone"))
    new = await world.assign(run)
    assert new.assignment_id != old.assignment_id
    assert new.fencing_token > old.fencing_token


async def test_the_job_with_its_secrets_is_gone_from_the_database_when_the_run_is_over(world: World) -> None:
    run = await world.queue()
    ref = await world.assign(run)
    await ask_gate(world, ref)
    report = rpc.RunResult(
        assignment=ref, outcome=rpc.RUN_OUTCOME_EXITED, exit_code=0, output_sha256=EMPTY_SHA256
    )
    await world.db.write(lambda tx: progress.result(tx, report, RUNNER))
    jobs = await world.db.read(
        lambda tx: tx.execute(sa.select(tables.assignments.c.job_sealed)).scalars().all()
    )
    assert jobs == [None]


async def test_a_command_that_was_killed_after_the_gate_is_a_failure_not_a_stop(world: World) -> None:
    run = await world.queue()
    ref = await world.assign(run)
    await ask_gate(world, ref)
    report = rpc.RunResult(assignment=ref, outcome=rpc.RUN_OUTCOME_STOPPED, output_sha256=EMPTY_SHA256)
    await world.db.write(lambda tx: progress.result(tx, report, RUNNER))
    assert await world.state(run) is RunState.FAILED
