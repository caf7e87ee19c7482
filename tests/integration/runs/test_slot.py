"""Invariant 1: at most one active run per stack, enforced by the database. Invariant 3: who may free the slot."""

import asyncio
from functools import partial

import pytest
import sqlalchemy as sa

from control_plane.runs import moves, progress, store
from control_plane.runs.errors import FencedOut
from control_plane.runs.states import ACTIVE, RunState
from control_plane.storage import tables
from interlock.v1 import runner_service_pb2 as rpc
from tests.integration.runs.conftest import OTHER_RUNNER, RUNNER, STACK, World

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def result_of(ref: rpc.AssignmentRef, exit_code: int = 0) -> rpc.RunResult:
    return rpc.RunResult(
        assignment=ref, outcome=rpc.RUN_OUTCOME_EXITED, exit_code=exit_code, output_sha256=EMPTY_SHA256
    )


@pytest.mark.parametrize("second_state", sorted(ACTIVE))
async def test_the_database_itself_refuses_a_second_active_run(world: World, second_state: RunState) -> None:
    first, second = await world.queue(), await world.queue()
    await world.assign(first)
    force = sa.update(tables.runs).where(tables.runs.c.id == second).values(state=second_state.value)
    with pytest.raises(sa.exc.IntegrityError):
        await world.db.write(lambda tx: tx.execute(force))
    assert await world.state(second) is RunState.QUEUED


async def test_of_many_who_take_the_slot_at_once_one_gets_it(world: World) -> None:
    queued = [await world.queue() for _ in range(20)]
    taken = await asyncio.gather(
        *(world.db.write(partial(store.take_slot, stack_id=STACK, run_id=run)) for run in queued)
    )
    assert [fence for fence in taken if fence is not None] == [1]


async def test_the_fencing_token_only_grows(world: World) -> None:
    fences = []
    for _ in range(3):
        ref = await world.assign(await world.queue())
        await world.db.write(partial(progress.ask_gate, ref=ref, runner_id=RUNNER))
        await world.db.write(partial(progress.result, report=result_of(ref), runner_id=RUNNER))
        fences.append(ref.fencing_token)
    assert fences == [1, 2, 3]


async def test_the_slot_is_freed_in_the_transaction_of_the_result(world: World) -> None:
    run = await world.queue()
    ref = await world.assign(run)
    await world.db.write(lambda tx: progress.ask_gate(tx, ref, RUNNER))
    assert await world.holder() == run
    await world.db.write(lambda tx: progress.result(tx, result_of(ref), RUNNER))
    assert (await world.holder(), await world.state(run)) == (None, RunState.FINISHED)


async def test_a_result_that_cannot_be_recorded_frees_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await world.queue()
    ref = await world.assign(run)
    await world.db.write(lambda tx: progress.ask_gate(tx, ref, RUNNER))
    monkeypatch.setattr(store, "free_slot", lambda *_: False)
    with pytest.raises(moves.SlotLost):
        await world.db.write(lambda tx: progress.result(tx, result_of(ref), RUNNER))
    assert (await world.holder(), await world.state(run)) == (run, RunState.PERFORMING)


async def test_an_assignment_that_is_over_changes_nothing_of_the_next_run(world: World) -> None:
    first, second = await world.queue(), await world.queue()
    old = await world.assign(first)
    await world.db.write(lambda tx: progress.ask_gate(tx, old, RUNNER))
    await world.db.write(lambda tx: progress.result(tx, result_of(old), RUNNER))
    await world.assign(second)
    with pytest.raises(FencedOut):
        await world.db.write(lambda tx: progress.result(tx, result_of(old), RUNNER))
    assert await world.holder() == second


@pytest.mark.parametrize(
    "wrong",
    [
        {"fencing_token": 99},
        {"assignment_id": "asg_00000000000000000000000099"},
        {"run_id": "run_00000000000000000000000099"},
    ],
    ids=["another fencing token", "another assignment", "another run"],
)
async def test_a_report_with_a_wrong_reference_is_refused(world: World, wrong: dict[str, object]) -> None:
    run = await world.queue()
    ref = await world.assign(run)
    forged = rpc.AssignmentRef()
    forged.CopyFrom(ref)
    for name, value in wrong.items():
        setattr(forged, name, value)
    with pytest.raises(FencedOut):
        await world.db.write(lambda tx: progress.ask_gate(tx, forged, RUNNER))
    assert await world.state(run) is RunState.READY


async def test_another_runner_cannot_report_for_a_run(world: World) -> None:
    run = await world.queue()
    ref = await world.assign(run)
    with pytest.raises(FencedOut):
        await world.db.write(lambda tx: progress.ask_gate(tx, ref, OTHER_RUNNER))
    assert await world.state(run) is RunState.READY
