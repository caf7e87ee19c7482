"""Approval: a run waits for its policies out of the slot's way, people review it, and what changes meanwhile counts."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator

import psutil
import pytest

import interlock
from interlock import errors, types
from interlock.client import Client
from interlock.retry import NEVER
from tests import house as houses
from tests.e2e.conftest import new_id, new_stack
from tests.house import House, reached

# As published for Spacelift, in Rego v0.
TWO_EYES = """package spacelift

approve {
  author := input.reviews.current.approvals[_].author
  author != input.run.creator_session.login
}

reject { count(input.reviews.current.rejections) > 0 }
"""
READERS = 'package spacelift\nimport rego.v1\nread if true\nwrite if "ops" in session.teams\n'


@pytest.fixture(scope="module")
async def office(tmp_path_factory: pytest.TempPathFactory, engine_url: str) -> AsyncIterator[House]:
    """A house of its own, where everybody may read every stack: its OPA is killed."""
    async with houses.opened(tmp_path_factory.mktemp("office"), engine_url) as house:
        async with house.connect() as admin:
            await admin.policies.create("readers", kind="access", body=READERS, labels=["autoattach:*"])
        yield house


@pytest.fixture
async def boss(office: House) -> AsyncIterator[Client]:
    async with office.connect() as client:
        yield client


@pytest.fixture
async def colleague(office: House, boss: Client) -> AsyncIterator[Client]:
    """May read every stack and write to none."""
    async with await colleague_of(office, boss) as client:
        yield client


async def colleague_of(office: House, boss: Client, *teams: str) -> Client:
    key = await boss.identity.create_key(new_id("colleague"), teams=teams)
    return office.connect(key.credential)


async def guarded(boss: Client, body: str = TWO_EYES) -> tuple[types.Stack, types.Policy]:
    """A stack with an approval policy of its own."""
    stack = await new_stack(boss)
    policy = await boss.policies.create(new_id("eyes"), kind="approval", body=body)
    await boss.policies.attach(policy.id, stack.id)
    return stack, policy


def state(run: types.Run) -> str:
    return types.RunState.Name(run.state).removeprefix("RUN_STATE_")


async def test_an_undecided_run_waits_and_says_for_whose_approval(boss: Client) -> None:
    stack, policy = await guarded(boss)
    run = await boss.runs.create_task(stack.id, "true")
    assert state(run) == "PENDING_REVIEW"
    assert run.waiting.reason == types.WaitReason.WAIT_REASON_APPROVAL
    assert run.waiting.message == f"waits for the approval of policy {policy.name} (revision 1)"
    assert run.approval_decision_id.startswith("dec_")
    assert (await boss.stacks.get(stack.id)).queued_runs == 0


async def test_a_run_that_waits_for_approval_is_in_nobodys_way(boss: Client) -> None:
    stack, policy = await guarded(boss)
    waiting = await boss.runs.create_task(stack.id, "true")
    await boss.policies.detach(policy.id, stack.id)
    free = await boss.runs.create_task(stack.id, "true")
    assert state(free) == "QUEUED"
    assert free.id > waiting.id


async def test_an_approval_of_another_person_lets_the_run_go_on(boss: Client, colleague: Client) -> None:
    stack, policy = await guarded(boss)
    run = await boss.runs.create_task(stack.id, "true")
    approved = await colleague.runs.approve(run.id, "looks fine")
    assert state(approved) == "QUEUED"
    assert approved.state_reason == f"approved by policy {policy.name} (revision 1)"
    [review] = approved.reviews
    assert (review.verdict, review.note) == (types.ReviewVerdict.REVIEW_VERDICT_APPROVE, "looks fine")
    login = review.reviewer.login
    assert [change.reason for change in approved.history][1:] == [
        f"approved by {login}: looks fine",
        approved.state_reason,
    ]
    [event] = [each async for each in boss.audit.list(stack_id=stack.id, action="run.approved")]
    assert event.caller.login == login
    assert "looks fine" in event.details_json


async def test_policies_see_the_run_its_creator_and_the_reviews_as_they_are(
    boss: Client, colleague: Client
) -> None:
    two = "package p\nimport rego.v1\napprove if count(reviews.current.approvals) > 1\n"
    stack, _ = await guarded(boss, two)
    await boss.stacks.update(stack.id, hooks=types.Hooks(before_init=["echo before"]))
    run = await boss.runs.create_task(stack.id, "true")
    run = await colleague.runs.approve(run.id, "fine")
    seen = json.loads((await boss.decisions.get(run.approval_decision_id)).input_json)
    assert seen["run"] == {
        "id": run.id,
        "type": "TASK",
        "state": "PENDING_REVIEW",
        "command": "true",
        "created_at": run.create_time.ToMicroseconds() * 1000,
        "updated_at": run.update_time.ToMicroseconds() * 1000,
        "branch": "",
        "commit": {
            "author": "", "branch": "", "created_at": 0, "hash": "", "message": "",
            "exist_on_tracked_branch": False,
        },
        "creator_session": {
            "admin": True, "creator_ip": "127.0.0.1", "login": "admin", "name": "First admin", "teams": [],
            "machine": False, "member": True, "account_name": "", "stack_id": None,
        },
        "triggered_by": "admin",
        "flags": [],
        "changes": [],
        "drift_detection": False,
        "based_on_local_workspace": False,
        "runtime_config": {
            "before_init": ["echo before"], "project_root": "", "runner_image": "nobody/needs-it:here",
            "terraform_version": "",
        },
        "user_provided_metadata": [],
    }  # fmt: skip
    [review] = seen["reviews"]["current"]["approvals"]
    login = run.reviews[0].reviewer.login
    assert review == {
        "author": login,
        "author_roles": [],
        "request": {
            "remote_ip": "127.0.0.1",
            "timestamp_ns": run.reviews[0].create_time.ToMicroseconds() * 1000,
        },
        "session": {"login": login, "name": run.reviews[0].reviewer.name, "teams": []},
        "state": "PENDING_REVIEW",
    }
    assert seen["reviews"]["current"]["rejections"] == []
    assert seen["reviews"]["older"] == {"approvals": [], "rejections": []}


async def test_the_creators_own_review_is_passed_to_the_policy_as_such(boss: Client) -> None:
    stack, _ = await guarded(boss)
    run = await boss.runs.create_task(stack.id, "true")
    assert state(await boss.runs.approve(run.id)) == "PENDING_REVIEW"


async def test_a_rejection_fails_the_run_with_its_reason(boss: Client, colleague: Client) -> None:
    stack, policy = await guarded(boss)
    run = await boss.runs.create_task(stack.id, "true")
    rejected = await colleague.runs.reject(run.id, "not on a Friday")
    assert state(rejected) == "FAILED"
    assert rejected.failure == types.RunFailure.RUN_FAILURE_REJECTED
    assert rejected.state_reason == f"rejected by policy {policy.name} (revision 1)"
    with pytest.raises(errors.WrongState, match="does not wait for approval"):
        await colleague.runs.approve(run.id)


async def test_where_policies_approve_and_reject_at_once_the_run_is_rejected(boss: Client) -> None:
    both = "package spacelift\nimport rego.v1\napprove := true\nreject := true\n"
    stack, _ = await guarded(boss, both)
    assert state(await boss.runs.create_task(stack.id, "true")) == "FAILED"


async def test_every_policy_has_to_approve(boss: Client, colleague: Client) -> None:
    stack, policy = await guarded(boss)
    always = 'package spacelift\nimport rego.v1\napprove if run.command == "true"\n'
    second = await boss.policies.create(new_id("always"), kind="approval", body=always)
    await boss.policies.attach(second.id, stack.id)
    run = await boss.runs.create_task(stack.id, "true")
    assert state(run) == "PENDING_REVIEW"
    assert policy.name in run.waiting.message
    assert second.name not in run.waiting.message
    assert state(await colleague.runs.approve(run.id)) == "QUEUED"


async def test_only_the_newest_review_of_each_person_counts(
    office: House, boss: Client, colleague: Client
) -> None:
    two = "package spacelift\nimport rego.v1\napprove if count(reviews.current.approvals) > 1\n"
    stack, _ = await guarded(boss, two)
    run = await boss.runs.create_task(stack.id, "true")
    await colleague.runs.approve(run.id)
    assert state(await colleague.runs.approve(run.id, "again")) == "PENDING_REVIEW"
    changed = await colleague.runs.reject(run.id, "on second thoughts")
    assert [review.superseded for review in changed.reviews] == [True, True, False]
    async with await colleague_of(office, boss) as third:
        assert state(await third.runs.approve(run.id)) == "PENDING_REVIEW"
        assert state(await colleague.runs.approve(run.id)) == "QUEUED"


async def test_a_repeated_request_gives_no_second_review(boss: Client, colleague: Client) -> None:
    stack, _ = await guarded(boss, "package spacelift\nimport rego.v1\napprove if false\n")
    run = await boss.runs.create_task(stack.id, "true")
    for _ in range(2):
        run = await colleague.runs.approve(run.id, "once", request_id="the-same")
    assert len(run.reviews) == 1
    with pytest.raises(errors.RequestIdReused):
        await colleague.runs.approve(run.id, "other", request_id="the-same")


async def test_who_may_not_read_the_stack_cannot_review_its_runs(office: House, boss: Client) -> None:
    stack, _ = await guarded(boss)
    hidden = await boss.policies.create(
        new_id("hidden"), kind="access", body='package p\nimport rego.v1\ndeny if "out" in session.teams\n'
    )
    await boss.policies.attach(hidden.id, stack.id)
    run = await boss.runs.create_task(stack.id, "true")
    async with await colleague_of(office, boss, "out") as outsider:
        with pytest.raises(errors.NotFound):
            await outsider.runs.approve(run.id)


async def test_a_policy_changed_while_a_run_waits_is_applied_to_it(boss: Client) -> None:
    stack, policy = await guarded(boss)
    run = await boss.runs.create_task(stack.id, "true")
    body = 'package spacelift\nimport rego.v1\napprove if run.state == "PENDING_REVIEW"\n'
    await boss.policies.update(policy.id, body=body)
    queued = await reached(boss, run.id, "QUEUED")
    assert queued.state_reason == f"approved by policy {policy.name} (revision 2)"


async def test_a_policy_detached_while_a_run_waits_is_not_asked_any_more(boss: Client) -> None:
    stack, policy = await guarded(boss)
    run = await boss.runs.create_task(stack.id, "true")
    await boss.policies.detach(policy.id, stack.id)
    await reached(boss, run.id, "QUEUED")


async def test_a_policy_attached_by_a_label_while_a_run_waits_is_asked_too(boss: Client) -> None:
    stack, _ = await guarded(boss)
    run = await boss.runs.create_task(stack.id, "true")
    label = new_id("label")
    body = "package spacelift\nimport rego.v1\nreject := true\n"
    await boss.policies.create(new_id("no"), kind="approval", body=body, labels=[f"autoattach:{label}"])
    await boss.stacks.update(stack.id, labels=[label])
    assert (await reached(boss, run.id, "FAILED")).failure == types.RunFailure.RUN_FAILURE_REJECTED


async def test_a_policy_that_fails_leaves_the_run_undecided_and_is_named(boss: Client) -> None:
    fragile = "package spacelift\nimport rego.v1\napprove if to_number(run.command) > 0\n"
    stack, policy = await guarded(boss, fragile)
    run = await boss.runs.create_task(stack.id, "not a number")
    assert state(run) == "PENDING_REVIEW"
    assert policy.name in run.waiting.message
    assert "line 3" in run.waiting.message
    await boss.policies.update(policy.id, body="package spacelift\nimport rego.v1\napprove := true\n")
    await reached(boss, run.id, "QUEUED")


async def test_a_run_that_waits_for_approval_can_be_discarded(boss: Client, colleague: Client) -> None:
    stack, _ = await guarded(boss)
    run = await boss.runs.create_task(stack.id, "true")
    assert state(await boss.runs.discard(run.id)) == "DISCARDED"
    assert (await boss.stacks.get(stack.id)).queued_runs == 0
    with pytest.raises(errors.WrongState):
        await colleague.runs.approve(run.id)
    await boss.stacks.delete(stack.id)


async def test_reviews_at_the_same_moment_all_count(office: House, boss: Client) -> None:
    three = "package spacelift\nimport rego.v1\napprove if count(reviews.current.approvals) == 3\n"
    stack, _ = await guarded(boss, three)
    run = await boss.runs.create_task(stack.id, "true")
    people = [await colleague_of(office, boss) for _ in range(3)]
    await asyncio.gather(*(each.runs.approve(run.id) for each in people))
    assert state(await boss.runs.get(run.id)) == "QUEUED"
    for each in people:
        await each.close()


async def test_a_review_while_opa_is_away_is_kept_and_counts_once_it_is_back(
    office: House, boss: Client
) -> None:
    stack, _ = await guarded(boss)
    run = await boss.runs.create_task(stack.id, "true")
    key = await boss.identity.create_key(new_id("colleague"), admin=True)
    # The one before the last change may not have gone yet.
    opas = [
        child
        for child in psutil.Process(office.server.pid).children(recursive=True)
        if child.name() == "opa" and child.status() != psutil.STATUS_ZOMBIE
    ]
    async with interlock.connect(office.address, api_key=key.credential, retry=NEVER) as reviewer:
        await reviewer.identity.get_caller()
        for opa in opas:
            opa.send_signal(signal.SIGSTOP)
        waiting = await reviewer.runs.approve(run.id)
    assert state(waiting) == "PENDING_REVIEW"
    assert "the policy engine does not answer" in waiting.waiting.message
    await reached(boss, run.id, "QUEUED")


async def test_a_restart_of_the_control_plane_loses_no_run_that_waits(office: House, boss: Client) -> None:
    stack, _ = await guarded(boss)
    run = await boss.runs.create_task(stack.id, "true")
    async with await colleague_of(office, boss) as reviewer:
        office.server.kill()
        await office.start_server()
        assert state(await boss.runs.get(run.id)) == "PENDING_REVIEW"
        assert state(await reviewer.runs.approve(run.id)) == "QUEUED"
