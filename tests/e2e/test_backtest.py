"""BacktestPolicy over decisions that the system itself recorded, of each kind: what is stored can be replayed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from interlock import errors, types
from interlock.client import Client
from tests.e2e.conftest import new_id, new_stack
from tests.e2e.test_explain import READERS, RULE, TWO_EYES, policy
from tests.house import House

WRITERS = READERS.replace("read if", "write if")
NOBODY = "package p\nimport rego.v1\nread if false\n"
NO_TRUE = 'package p\nimport rego.v1\ndeny contains "no true" if request.command == "true"\n'
APPROVE = "package p\nimport rego.v1\napprove := true\n"
NEVER = "package p\nimport rego.v1\ndeny if session.machine\n"


@pytest.fixture
async def writer(served: House, admin: Client) -> AsyncIterator[Client]:
    key = await admin.identity.create_key(new_id("writer"), teams=["readers"])
    async with served.connect(key.credential) as client:
        yield client


async def report(client: Client, body: str, **options: str) -> types.BacktestReport:
    *_, last = [each async for each in client.policies.backtest(body, **options)]  # type: ignore[arg-type]
    assert isinstance(last, types.BacktestReport)
    return last


def counts(told: types.BacktestReport) -> tuple[int, int, int]:
    assert told.errors == told.incomparable == 0
    return told.decisions, told.newly_denied, told.newly_allowed


async def test_tasks_that_were_recorded_are_replayed(admin: Client, writer: Client) -> None:
    stack = await new_stack(admin)
    await policy(admin, stack, "access", WRITERS)
    old = await policy(admin, stack, "task", RULE)
    await writer.runs.create_task(stack.id, "true")
    with pytest.raises(errors.TaskDenied):
        await writer.runs.create_task(stack.id, "taint x")
    assert counts(await report(admin, RULE, replaces=old)) == (2, 0, 0)
    assert counts(await report(admin, NO_TRUE, replaces=old)) == (2, 1, 1)
    assert counts(await report(writer, NO_TRUE, stack_id=stack.id)) == (2, 1, 0)


async def test_access_that_was_recorded_with_tasks_is_replayed(admin: Client, writer: Client) -> None:
    stack = await new_stack(admin)
    writers = await policy(admin, stack, "access", WRITERS)
    await policy(admin, stack, "access", NOBODY)
    await writer.runs.create_task(stack.id, "true")
    await admin.runs.create_task(stack.id, "true")
    told = await report(admin, NOBODY, replaces=writers)
    # Of the admin's nobody asked the access policies.
    assert (told.decisions, told.newly_denied) == (1, 1)
    assert [each.subject for each in told.messages] == ["write -> none"]


async def test_approvals_that_were_recorded_are_replayed(admin: Client) -> None:
    stack = await new_stack(admin)
    eyes = await policy(admin, stack, "approval", TWO_EYES)
    run = await admin.runs.create_task(stack.id, "true")
    await admin.runs.approve(run.id)
    assert counts(await report(admin, TWO_EYES, replaces=eyes)) == (2, 0, 0)
    assert counts(await report(admin, APPROVE, replaces=eyes)) == (2, 0, 1)
    reject = APPROVE.replace("approve", "reject")
    assert counts(await report(admin, reject, stack_id=stack.id)) == (2, 2, 0)


async def test_logins_that_were_recorded_are_replayed_for_admins(
    served: House, admin: Client, writer: Client
) -> None:
    shadow = await admin.policies.create(
        new_id("shadow"), NEVER, kind="login", labels=["autoattach-shadow:*"]
    )
    login = new_id("machine")
    key = await admin.identity.create_key(login, machine=True)
    async with served.connect(key.credential) as machine:
        await machine.identity.get_caller()
    await admin.policies.delete(shadow.id)
    told = await report(admin, "package p\nimport rego.v1\nallow if not session.machine\n", kind="login")
    [mine] = [each for each in told.callers if each.subject == login]
    assert (mine.newly_denied, mine.newly_allowed) == (1, 0)
    with pytest.raises(errors.PermissionDenied):
        await report(writer, NEVER, kind="login")
