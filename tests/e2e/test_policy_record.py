"""Policies' revisions, where they apply and why, shadow mode, and decisions as they were stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from interlock import errors, types
from interlock.client import Client
from tests.e2e.conftest import new_id, new_stack
from tests.house import House

RULE = 'package spacelift\nimport rego.v1\ndeny contains "no {0}" if input.request.command == "{0}"\n'
FRAGILE = 'package spacelift\nimport rego.v1\ndeny contains "negative" if to_number(request.command) < 0\n'
READERS = 'package spacelift\nimport rego.v1\nread if "readers" in session.teams\n'


@pytest.fixture
async def reader(served: House, admin: Client) -> AsyncIterator[Client]:
    """May read the stacks that are labelled `read`."""
    if not [each async for each in admin.policies.list() if each.id == "record-readers"]:
        await admin.policies.create("record readers", kind="access", body=READERS, labels=["autoattach:read"])
    key = await admin.identity.create_key(new_id("reader"), teams=["readers"])
    async with served.connect(key.credential) as client:
        yield client


async def new_policy(admin: Client, body: str = RULE.format("one"), **options: object) -> types.Policy:
    return await admin.policies.create(new_id("words"), kind="task", body=body, **options)  # type: ignore[arg-type]


async def denial(client: Client, stack_id: str, command: str) -> errors.TaskDenied:
    with pytest.raises(errors.TaskDenied) as raised:
        await client.runs.create_task(stack_id, command)
    return raised.value


# Revisions


async def test_every_change_makes_a_revision_with_author_time_and_difference(admin: Client) -> None:
    policy = await new_policy(admin)
    await admin.policies.update(policy.id, body=RULE.format("two"))
    changed = await admin.policies.update(policy.id, labels=["autoattach:nowhere"])
    assert changed.revision == 3
    newest, middle, first = [each async for each in admin.policies.history(policy.id)]
    assert [each.revision for each in (newest, middle, first)] == [3, 2, 1]
    assert [each.change for each in (newest, middle, first)] == ["changed labels", "changed body", "created"]
    assert newest.author.login == "admin"
    assert newest.create_time.ToMicroseconds() >= first.create_time.ToMicroseconds()
    assert first.diff == ""
    assert "+labels: autoattach:nowhere\n" in newest.diff
    added = [line for line in middle.diff.splitlines() if line.startswith("+") and "deny" in line]
    assert added == ['+deny contains "no two" if input.request.command == "two"']


async def test_a_rollback_brings_everything_back_as_a_new_revision_that_counts(admin: Client) -> None:
    stack = await new_stack(admin)
    policy = await new_policy(admin)
    await admin.policies.attach(policy.id, stack.id)
    await admin.policies.update(policy.id, body=RULE.format("two"), description="changed")
    back = await admin.policies.rollback(policy.id, 1)
    assert (back.revision, back.body, back.description) == (3, policy.body, "")
    assert (await denial(admin, stack.id, "one")).messages == ("no one",)
    [newest] = [each async for each in admin.policies.history(policy.id, limit=1)]
    assert newest.change == "rolled back to revision 1"
    [event] = [each async for each in admin.audit.list(resource_id=policy.id, action="policy.rolled_back")]
    assert json.loads(event.details_json) == {"revision": 3, "to": 1}


async def test_a_repeated_rollback_makes_one_revision(admin: Client) -> None:
    policy = await new_policy(admin)
    await admin.policies.update(policy.id, body=RULE.format("two"))
    await admin.policies.rollback(policy.id, 1, request_id=f"back-{policy.id}")
    again = await admin.policies.rollback(policy.id, 1, request_id=f"back-{policy.id}")
    assert again.revision == 3


async def test_a_rollback_to_a_revision_that_the_policy_does_not_have_is_refused(admin: Client) -> None:
    policy, other = await new_policy(admin), await new_policy(admin)
    await admin.policies.update(other.id, body=RULE.format("two"))
    with pytest.raises(errors.NotFound, match=f"{policy.id}@2"):
        await admin.policies.rollback(policy.id, 2)


async def test_a_rollback_to_a_revision_of_another_policy_of_the_same_id_is_refused(admin: Client) -> None:
    policy = await new_policy(admin)
    await admin.policies.delete(policy.id)
    assert [each.revision async for each in admin.policies.history(policy.id)] == [1]
    again = await admin.policies.create("again", policy_id=policy.id, kind="access", body=READERS)
    assert again.revision == 2
    with pytest.raises(errors.InvalidArgument, match="of another policy"):
        await admin.policies.rollback(policy.id, 1)
    assert (await admin.policies.get(policy.id)).revision == 2


async def test_of_two_authors_who_save_at_once_the_second_is_told(admin: Client) -> None:
    policy = await new_policy(admin)
    saves = (
        admin.policies.update(policy.id, etag=policy.etag, body=RULE.format(word))
        for word in ("two", "three")
    )
    outcomes = await asyncio.gather(*saves, return_exceptions=True)
    assert sorted(type(each).__name__ for each in outcomes) == ["Policy", "StaleEtag"]
    assert (await admin.policies.get(policy.id)).revision == 2


# Attaching


async def test_why_a_policy_applies_is_told_of_the_stack_and_of_the_policy(admin: Client) -> None:
    label = new_id("label")
    stack = await new_stack(admin, labels=[label])
    both = await new_policy(admin, labels=[f"autoattach:{label}"])
    await admin.policies.attach(both.id, stack.id)
    everywhere = await new_policy(admin, RULE.format(new_id("rare")), labels=["autoattach-shadow:*"])
    applied = {each.policy.id: each for each in await admin.policies.attached(stack.id)}
    reasons = applied[both.id].reasons
    assert [each.label for each in reasons] == ["", f"autoattach:{label}"]
    assert reasons[0].HasField("attach_time")
    assert not applied[both.id].shadow
    assert applied[everywhere.id].shadow
    [there] = [each async for each in admin.policies.stacks(both.id)]
    assert (there.stack_id, [each.label for each in there.reasons]) == (
        stack.id,
        [each.label for each in reasons],
    )
    assert stack.id in {each.stack_id async for each in admin.policies.stacks(everywhere.id)}
    await admin.policies.delete(everywhere.id)


async def test_the_stacks_of_a_policy_are_those_that_the_caller_may_read(
    admin: Client, reader: Client
) -> None:
    label = new_id("label")
    hidden, shown = await new_stack(admin, labels=[label]), await new_stack(admin, labels=[label, "read"])
    policy = await new_policy(admin, labels=[f"autoattach:{label}"])
    assert {each.stack_id async for each in admin.policies.stacks(policy.id)} == {hidden.id, shown.id}
    assert [each.stack_id async for each in reader.policies.stacks(policy.id)] == [shown.id]
    with pytest.raises(errors.NotFound):
        await reader.policies.attached(hidden.id)


async def test_a_policy_cannot_be_attached_to_a_stack_that_does_not_exist(admin: Client) -> None:
    policy = await new_policy(admin)
    with pytest.raises(errors.NotFound, match="nowhere"):
        await admin.policies.attach(policy.id, "nowhere")


# Shadow mode


async def test_a_policy_in_shadow_mode_is_recorded_and_never_counts(admin: Client) -> None:
    stack = await new_stack(admin)
    policy = await new_policy(admin)
    await admin.policies.attach(policy.id, stack.id, shadow=True)
    run = await admin.runs.create_task(stack.id, "one")
    decision = await admin.decisions.get(run.decision_id)
    [verdict] = decision.verdicts
    assert decision.outcome == "allowed"
    assert (verdict.policy_id, verdict.revision, verdict.shadow, verdict.would_be) == (
        policy.id, 1, True, "denied",
    )  # fmt: skip
    assert json.loads(verdict.results_json) == {"deny": ["no one"]}


async def test_a_policy_that_fails_in_shadow_mode_denies_nothing(admin: Client) -> None:
    stack = await new_stack(admin)
    policy = await new_policy(admin, FRAGILE)
    await admin.policies.attach(policy.id, stack.id, shadow=True)
    run = await admin.runs.create_task(stack.id, "no number")
    [verdict] = (await admin.decisions.get(run.decision_id)).verdicts
    assert "to_number" in verdict.failure


async def test_the_shadow_report_counts_what_would_have_changed(admin: Client, reader: Client) -> None:
    stack = await new_stack(admin)
    policy = await new_policy(admin)
    await admin.policies.attach(policy.id, stack.id, shadow=True)
    commands = ("one", "two", "one")
    runs = [await admin.runs.create_task(stack.id, command) for command in commands]
    report = await admin.policies.shadow_report(policy.id)
    assert (report.decisions, report.stricter, report.more_lenient, report.failed) == (3, 2, 0, 0)
    assert [(each.subject, each.changed) for each in report.messages] == [("no one", 2)]
    assert [(each.subject, each.changed) for each in report.stacks] == [(stack.id, 2)]
    assert list(report.decision_ids) == [runs[2].decision_id, runs[0].decision_id]
    assert (await reader.policies.shadow_report(policy.id)).decisions == 0


async def test_attaching_without_shadow_makes_it_count(admin: Client) -> None:
    stack = await new_stack(admin)
    policy = await new_policy(admin)
    await admin.policies.attach(policy.id, stack.id, shadow=True)
    await admin.runs.create_task(stack.id, "one")
    await admin.policies.attach(policy.id, stack.id)
    await denial(admin, stack.id, "one")


async def test_an_approval_policy_in_shadow_mode_holds_nothing_back(admin: Client) -> None:
    stack = await new_stack(admin)
    approving = "package p\nimport rego.v1\napprove := true\n"
    undecided = "package p\nimport rego.v1\napprove if count(reviews.current.approvals) > 0\n"
    always = await admin.policies.create(new_id("eyes"), kind="approval", body=approving)
    never = await admin.policies.create(new_id("eyes"), kind="approval", body=undecided)
    await admin.policies.attach(always.id, stack.id)
    await admin.policies.attach(never.id, stack.id, shadow=True)
    run = await admin.runs.create_task(stack.id, "true")
    assert run.state == types.RunState.RUN_STATE_QUEUED
    decision = await admin.decisions.get(run.approval_decision_id)
    assert {each.policy_id: each.would_be for each in decision.verdicts} == {
        always.id: "", never.id: "undecided",
    }  # fmt: skip


# Decisions


async def test_a_decision_is_stored_whole_and_linked_from_the_run(admin: Client) -> None:
    stack = await new_stack(admin, labels=["blue"])
    policy = await new_policy(admin)
    await admin.policies.attach(policy.id, stack.id)
    run = await admin.runs.create_task(stack.id, "two")
    decision = await admin.decisions.get(run.decision_id)
    assert (decision.run_id, decision.stack_id, decision.outcome) == (run.id, stack.id, "allowed")
    assert decision.took_us > 0
    seen = json.loads(decision.input_json)
    assert seen["request"]["command"] == "two"
    assert seen["stack"]["labels"] == ["blue"]
    assert [(each.policy_id, each.revision) for each in decision.verdicts] == [(policy.id, 1)]
    assert (await admin.policies.revision(policy.id, 1)).body == policy.body


async def test_what_a_policy_printed_is_shown_with_its_line(admin: Client) -> None:
    stack = await new_stack(admin)
    v0 = (
        "package p\n\n# A comment that moves lines.\n\ndeny[msg] {\n"
        '  print("command:", input.request.command)\n  words := split(input.request.command, " ")\n'
        '  print(count(words), sanitized("x") == sanitized("x"))\n  msg := words[1]\n}\n'
    )
    policy = await new_policy(admin, v0)
    await admin.policies.attach(policy.id, stack.id)
    quiet = await new_policy(admin)
    await admin.policies.attach(quiet.id, stack.id)
    denied = await denial(admin, stack.id, "one two")
    decision = await admin.decisions.get(denied.decision_id)
    assert [(each.policy_id, each.line, each.text) for each in decision.prints] == [
        (policy.id, 6, "command: one two"),
        (policy.id, 8, "2 true"),
    ]


async def test_a_denial_links_its_decision(admin: Client) -> None:
    stack = await new_stack(admin)
    policy = await new_policy(admin)
    await admin.policies.attach(policy.id, stack.id)
    denied = await denial(admin, stack.id, "one")
    decision = await admin.decisions.get(denied.decision_id)
    assert (decision.outcome, list(decision.messages), decision.run_id) == ("denied", ["no one"], "")


async def test_a_caller_who_may_only_read_finds_the_decision_that_refused(
    admin: Client, reader: Client
) -> None:
    stack = await new_stack(admin, labels=["read"])
    with pytest.raises(errors.PermissionDenied) as raised:
        await reader.runs.create_task(stack.id, "one")
    decision = await reader.decisions.get(raised.value.decision_id)
    assert decision.outcome == "read only"
    assert [each.policy_id for each in decision.verdicts] == ["record-readers"]


async def test_secrets_in_a_decision_are_replaced_by_their_checksums(admin: Client) -> None:
    stack = await new_stack(admin)
    await admin.stacks.set_environment(stack.id, secrets={"TOKEN": "hunter2-hunter2"})
    [variable] = (await admin.stacks.get_environment(stack.id)).variables
    body = "package p\nimport rego.v1\ndeny contains request.command\n"
    policy = await new_policy(admin, body)
    await admin.policies.attach(policy.id, stack.id)
    denied = await denial(admin, stack.id, "curl -u me:hunter2-hunter2")
    decision = await admin.decisions.get(denied.decision_id)
    assert "hunter2-hunter2" not in str(decision)
    assert json.loads(decision.input_json)["request"]["command"] == f"curl -u me:{variable.checksum}"


async def test_decisions_are_listed_newest_first_and_found_by_what_they_are_about(admin: Client) -> None:
    stack = await new_stack(admin)
    policy = await new_policy(admin, RULE.format("one") + 'sample if request.command == "two"\n')
    await admin.policies.attach(policy.id, stack.id)
    denied = await denial(admin, stack.id, "one")
    run = await admin.runs.create_task(stack.id, "two")

    async def ids(**filters: object) -> list[str]:
        listed = admin.decisions.list(stack_id=stack.id, **filters)  # type: ignore[arg-type]
        return [each.id async for each in listed]

    assert await ids() == [run.decision_id, denied.decision_id]
    assert await ids(allowed=False) == [denied.decision_id]
    assert await ids(samples_only=True) == [run.decision_id]
    assert await ids(run_id=run.id) == [run.decision_id]
    assert await ids(kind="approval") == []
    assert await ids(limit=1) == [run.decision_id]
    assert [each.input_json async for each in admin.decisions.list(stack_id=stack.id)] == ["", ""]


async def test_who_may_not_read_a_stack_may_not_read_its_decisions(admin: Client, reader: Client) -> None:
    stack = await new_stack(admin)
    run = await admin.runs.create_task(stack.id, "true")
    with pytest.raises(errors.NotFound):
        await reader.decisions.get(run.decision_id)
    assert [each async for each in reader.decisions.list(stack_id=stack.id)] == []
