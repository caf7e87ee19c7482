"""A tracked run in the store: what was confirmed is applied at most once, and never after it was discarded."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from control_plane import clock
from control_plane.pools.connections import Connections, RunnerConnection
from control_plane.runs import assignments, confirm, plans, progress, reach, store
from control_plane.runs import stop as stopping
from control_plane.runs.errors import FencedOut, PlanGone, WrongState
from control_plane.runs.feeds import Feeds
from control_plane.runs.jobs import JobBuilder
from control_plane.runs.kept import KeptPlans
from control_plane.runs.notices import Notices
from control_plane.runs.scheduler import Scheduler
from control_plane.runs.states import RunState
from control_plane.storage import tables
from control_plane.storage.archives import ArchiveStore
from control_plane.storage.outputs import StoredOutput
from interlock.v1 import run_pb2
from interlock.v1 import run_service_pb2 as calls
from interlock.v1 import runner_service_pb2 as rpc
from tests.integration.runs.conftest import ADA, OTHER_RUNNER, RUNNER, World, connect_runner

LEFT = b"the plan, and the workspace " * 20_000
LEFT_SHA256 = hashlib.sha256(LEFT).hexdigest()
PLANS_OUTPUT = StoredOutput(5, hashlib.sha256(b"plan\n").hexdigest())


@pytest.fixture
def kept(world: World, tmp_path: Path) -> KeptPlans:
    archives = ArchiveStore(tmp_path / "sources")
    archives.open()
    return KeptPlans(world.db, archives, world.sealer)


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


def planned(ref: rpc.AssignmentRef, *, has_changes: bool = True) -> rpc.RunResult:
    summary = run_pb2.PlanSummary(has_changes=has_changes, is_counted=True, add=1 if has_changes else 0)
    change = run_pb2.ResourceChange(address="a.b", resource_type="a", action=run_pb2.CHANGE_ACTION_CREATE)
    return rpc.RunResult(
        assignment=ref,
        outcome=rpc.RUN_OUTCOME_PLANNED,
        exit_code=0,
        plan=rpc.PlanReport(
            summary=summary,
            changes=[change] if has_changes else [],
            kept_sha256=LEFT_SHA256 if has_changes else "",
        ),
    )


async def plan(
    world: World, kept: KeptPlans, *, has_changes: bool = True, auto_confirm: bool = False
) -> tuple[str, rpc.AssignmentRef]:
    """A tracked run whose plan is made."""
    run = await world.queue(type="TRACKED", auto_confirm=auto_confirm)
    ref = await world.assign(run)
    await world.db.write(lambda tx: progress.planning(tx, ref, RUNNER))
    if has_changes:
        await kept.take(await world.row(run), pieces(LEFT))
    report = planned(ref, has_changes=has_changes)
    await world.db.write(lambda tx: progress.result(tx, report, RUNNER, PLANS_OUTPUT))
    return run, ref


async def confirmed(world: World, run: str, request_id: str = "") -> None:
    request = calls.ConfirmRunRequest(run_id=run, note="looks right", request_id=request_id)
    await world.db.write(lambda tx: confirm.confirm(tx, ADA, request))


async def discard(world: World, run: str) -> None:
    await world.db.write(lambda tx: stopping.discard(tx, ADA, calls.DiscardRunRequest(run_id=run)))


@pytest.fixture
def scheduler(world: World) -> tuple[Scheduler, Connections]:
    connections = Connections()
    jobs = JobBuilder(world.sealer)
    return Scheduler(world.db, connections, jobs, world.sealer, Notices(Feeds())), connections


async def apply(scheduler: tuple[Scheduler, Connections], runner_id: str = RUNNER) -> rpc.Assignment:
    """Gives a confirmed plan to a runner, as the scheduler does."""
    runner = connect_runner(scheduler[1], runner_id)
    await scheduler[0]._dispatch()
    return given(runner)


def given(runner: RunnerConnection) -> rpc.Assignment:
    message = runner.outgoing.get_nowait()
    assert message is not None
    return message.assignment


async def test_a_plan_with_changes_waits_holds_the_slot_and_lets_its_runner_go(
    world: World, kept: KeptPlans
) -> None:
    run, ref = await plan(world, kept)
    row = await world.row(run)
    assert (RunState(row.state), row.runner_id, row.assignment_id) == (RunState.UNCONFIRMED, "", "")
    assert await world.holder() == run
    with pytest.raises(FencedOut):
        await world.db.write(lambda tx: assignments.current(tx, ref, RUNNER))


async def test_a_plan_without_changes_finishes_the_run_and_frees_the_slot(
    world: World, kept: KeptPlans
) -> None:
    run, _ = await plan(world, kept, has_changes=False)
    assert (await world.state(run), await world.holder()) == (RunState.FINISHED, None)


async def test_a_run_that_confirms_itself_goes_on_without_anybody(world: World, kept: KeptPlans) -> None:
    run, _ = await plan(world, kept, auto_confirm=True)
    row = await world.row(run)
    assert RunState(row.state) is RunState.CONFIRMED
    assert not run_pb2.Confirmation.FromString(row.confirmation).HasField("caller")


async def test_a_plan_whose_remains_did_not_arrive_fails_the_run(world: World) -> None:
    run = await world.queue(type="TRACKED")
    ref = await world.assign(run)
    await world.db.write(lambda tx: progress.result(tx, planned(ref), RUNNER, PLANS_OUTPUT))
    row = await world.row(run)
    assert (RunState(row.state), row.failure) == (RunState.FAILED, run_pb2.RUN_FAILURE_PLAN)
    assert await world.holder() is None


async def test_a_stop_that_comes_while_the_plan_is_made_ends_the_run(world: World, kept: KeptPlans) -> None:
    run = await world.queue(type="TRACKED")
    ref = await world.assign(run)
    await world.db.write(lambda tx: progress.planning(tx, ref, RUNNER))
    await kept.take(await world.row(run), pieces(LEFT))
    await world.db.write(lambda tx: stopping.stop(tx, stopping.find(tx, run), ADA))
    await world.db.write(lambda tx: progress.result(tx, planned(ref), RUNNER, PLANS_OUTPUT))
    assert (await world.state(run), await world.holder()) == (RunState.STOPPED, None)


async def test_no_gate_opens_for_a_plan(world: World) -> None:
    run = await world.queue(type="TRACKED")
    ref = await world.assign(run)
    gate = await world.db.write(lambda tx: progress.ask_gate(tx, ref, RUNNER))
    assert not gate.go
    assert await world.state(run) is RunState.READY


async def test_a_task_never_plans(world: World) -> None:
    run = await world.queue()
    ref = await world.assign(run)
    await world.db.write(lambda tx: progress.planning(tx, ref, RUNNER))
    assert await world.state(run) is RunState.INITIALIZING
    await world.db.write(lambda tx: progress.result(tx, planned(ref), RUNNER))
    assert await world.state(run) is RunState.FAILED


async def test_a_confirmed_plan_is_given_out_with_the_job_that_planned_and_a_new_fencing_token(
    world: World, kept: KeptPlans, scheduler: tuple[Scheduler, Connections]
) -> None:
    run, ref = await plan(world, kept)
    await confirmed(world, run)
    await world.db.write(
        lambda tx: tx.execute(sa.update(tables.stacks).values(custom_apply=["rm -rf /"], image="evil"))
    )
    assignment = await apply(scheduler)
    assert assignment.assignment.fencing_token > ref.fencing_token
    assert (assignment.job.part, assignment.job.command) == (rpc.RUN_PART_APPLY, "true")
    assert (assignment.job.image, list(assignment.job.custom_apply)) == ("", [])
    assert assignment.job.kept_plan.sha256 == LEFT_SHA256


async def test_what_the_plan_left_comes_back_byte_for_byte_and_lies_sealed(
    world: World, kept: KeptPlans, tmp_path: Path
) -> None:
    run, _ = await plan(world, kept)
    assert b"".join([chunk async for chunk in kept.chunks(run)]) == LEFT
    [file] = (tmp_path / "sources").iterdir()
    assert b"workspace" not in file.read_bytes()


async def test_the_apply_passes_its_gate_once_and_ends_the_run(
    world: World, kept: KeptPlans, scheduler: tuple[Scheduler, Connections]
) -> None:
    run, _ = await plan(world, kept)
    await confirmed(world, run)
    ref = (await apply(scheduler)).assignment
    first = await world.db.write(lambda tx: progress.ask_gate(tx, ref, RUNNER))
    again = await world.db.write(lambda tx: progress.ask_gate(tx, ref, RUNNER))
    assert ((first.go, first.moved), (again.go, again.moved)) == ((True, True), (True, False))
    assert await world.state(run) is RunState.APPLYING
    with pytest.raises(WrongState, match="applying since"):
        await world.db.write(lambda tx: stopping.stop(tx, stopping.find(tx, run), ADA))
    report = rpc.RunResult(assignment=ref, outcome=rpc.RUN_OUTCOME_EXITED, exit_code=0)
    await world.db.write(lambda tx: progress.result(tx, report, RUNNER, PLANS_OUTPUT))
    assert (await world.state(run), await world.holder()) == (RunState.FINISHED, None)


async def test_an_apply_whose_runner_is_lost_before_the_gate_is_given_to_another(
    world: World, kept: KeptPlans, scheduler: tuple[Scheduler, Connections]
) -> None:
    run, _ = await plan(world, kept)
    await confirmed(world, run)
    lost = (await apply(scheduler)).assignment
    grown = StoredOutput(9, hashlib.sha256(b"plan\ninit").hexdigest())
    await world.db.write(lambda tx: reach.give_up(tx, stopping.find(tx, run), "lost", grown))
    assert (await world.state(run), await world.holder()) == (RunState.CONFIRMED, run)
    scheduler[1].remove(next(iter(scheduler[1].all())))
    again = (await apply(scheduler, OTHER_RUNNER)).assignment
    assert again.fencing_token > lost.fencing_token
    with pytest.raises(FencedOut):
        await world.db.write(lambda tx: progress.ask_gate(tx, lost, RUNNER))
    assignment = await world.db.read(lambda tx: assignments.find(tx, again.assignment_id))
    assert assignment is not None
    assert assignment.output_start == 9
    assert (await world.db.write(lambda tx: progress.ask_gate(tx, again, OTHER_RUNNER))).go


async def test_an_apply_whose_runner_is_lost_behind_the_gate_keeps_its_slot(
    world: World, kept: KeptPlans, scheduler: tuple[Scheduler, Connections]
) -> None:
    run, _ = await plan(world, kept)
    await confirmed(world, run)
    ref = (await apply(scheduler)).assignment
    await world.db.write(lambda tx: progress.ask_gate(tx, ref, RUNNER))
    ended = await world.db.write(lambda tx: reach._end_lease(tx, RUNNER, clock.now_us(), {}))
    assert not ended
    assert (await world.state(run), await world.holder()) == (RunState.APPLYING, run)
    assert await world.db.write(lambda tx: list(store.to_apply(tx, ["public"], 10))) == []


async def test_a_discarded_plan_frees_the_slot_and_is_never_applied(
    world: World, kept: KeptPlans, scheduler: tuple[Scheduler, Connections]
) -> None:
    run, _ = await plan(world, kept)
    await discard(world, run)
    row = await world.row(run)
    assert (RunState(row.state), await world.holder()) == (RunState.DISCARDED, None)
    assert (row.output_size_bytes, row.output_sha256) == (PLANS_OUTPUT.size_bytes, PLANS_OUTPUT.sha256)
    with pytest.raises(WrongState, match="it is DISCARDED"):
        await confirmed(world, run)
    runner = connect_runner(scheduler[1])
    await scheduler[0]._dispatch()
    assert runner.outgoing.empty()


async def test_a_confirmed_plan_cannot_be_discarded_but_stopped_before_a_runner_has_it(
    world: World, kept: KeptPlans
) -> None:
    run, _ = await plan(world, kept)
    await confirmed(world, run)
    with pytest.raises(WrongState, match="it is CONFIRMED"):
        await discard(world, run)
    await world.db.write(lambda tx: stopping.stop(tx, stopping.find(tx, run), ADA))
    assert (await world.state(run), await world.holder()) == (RunState.STOPPED, None)


async def test_the_same_request_id_confirms_once_and_another_finds_the_run_confirmed(
    world: World, kept: KeptPlans
) -> None:
    run, _ = await plan(world, kept)
    await confirmed(world, run, "once")
    before = await world.row(run)
    await confirmed(world, run, "once")
    assert await world.row(run) == before
    with pytest.raises(WrongState, match="it is CONFIRMED"):
        await confirmed(world, run, "twice")


async def test_what_the_plan_left_is_removed_when_the_run_is_over_and_its_changes_stay(
    world: World, kept: KeptPlans, tmp_path: Path
) -> None:
    run, _ = await plan(world, kept)
    await kept._sweep()
    assert len(list((tmp_path / "sources").iterdir())) == 1
    await discard(world, run)
    await kept._sweep()
    assert list((tmp_path / "sources").iterdir()) == []
    with pytest.raises(PlanGone):
        await anext(kept.chunks(run))
    stored = await world.db.read(lambda tx: plans.find(tx, run))
    assert stored is not None
    assert [change.address for change in run_pb2.Plan.FromString(stored.changes).changes] == ["a.b"]
    assert stored.job_sealed is None


async def test_what_a_fenced_out_runner_sends_is_not_kept(
    world: World, kept: KeptPlans, tmp_path: Path
) -> None:
    run = await world.queue(type="TRACKED")
    await world.assign(run)
    seen = await world.row(run)
    await world.db.write(lambda tx: reach.give_up(tx, stopping.find(tx, run), "lost"))
    with pytest.raises(FencedOut):
        await kept.take(seen, pieces(LEFT))
    assert list((tmp_path / "sources").iterdir()) == []
