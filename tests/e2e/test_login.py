"""Login policies: who comes in, as what, and how nobody is locked out for good."""

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
from tests.house import House

# As published for Spacelift, in Rego v0.
PUBLISHED = """package spacelift

admins  := { "alice" }
allowed := { "bob", "carol" }
login   := input.session.login

admin { admins[login] }
allow { allowed[login] }
deny  { not admins[login]; not allowed[login] }
deny  { input.session.login == "eve" }

space_admin["legacy"] { allow }
"""


@pytest.fixture(scope="module")
async def gate(tmp_path_factory: pytest.TempPathFactory, engine_url: str) -> AsyncIterator[House]:
    """A house of its own: login policies are for everybody."""
    async with houses.opened(tmp_path_factory.mktemp("gate"), engine_url) as house:
        yield house


@pytest.fixture
async def boss(gate: House) -> AsyncIterator[Client]:
    """An admin; afterwards there are no login policies."""
    async with gate.connect() as client:
        yield client
        for policy in [each async for each in client.policies.list(kind="login")]:
            await client.policies.delete(policy.id)


async def with_policy(boss: Client, body: str, *labels: str) -> types.Policy:
    text = f"package p\nimport rego.v1\n{body}\n"
    return await boss.policies.create(new_id("login"), kind="login", body=text, labels=labels)


async def caller(gate: House, boss: Client, login: str, *teams: str) -> types.Caller:
    """As whom a new key with this login comes in."""
    key = await boss.identity.create_key(login, login=f"{login}", teams=teams)
    try:
        async with interlock.connect(gate.address, api_key=key.credential, retry=NEVER) as client:
            return await client.identity.get_caller()
    finally:
        await boss.identity.revoke_key(key.api_key.id)


async def test_without_a_login_policy_a_key_is_what_it_is(gate: House, boss: Client) -> None:
    came_in = await caller(gate, boss, new_id("ann"), "web")
    assert (list(came_in.teams), came_in.admin) == (["web"], False)
    assert [each async for each in boss.decisions.list(kind="login")] == []


@pytest.mark.parametrize(("login", "admin"), [("alice", True), ("bob", False)])
async def test_a_published_policy_lets_in_whom_it_names(
    gate: House, boss: Client, login: str, admin: bool
) -> None:
    await boss.policies.create("published", kind="login", body=PUBLISHED)
    assert (await caller(gate, boss, login)).admin is admin


async def test_who_is_refused_is_told_so_and_an_admin_sees_why(gate: House, boss: Client) -> None:
    policy = await boss.policies.create("published", kind="login", body=PUBLISHED)
    with pytest.raises(errors.LoginDenied) as raised:
        await caller(gate, boss, "mallory", "web")
    decision = await boss.decisions.get(raised.value.decision_id)
    assert (decision.outcome, decision.caller_login, decision.allowed) == ("denied", "mallory", False)
    assert [(each.policy_id, each.revision) for each in decision.verdicts] == [(policy.id, policy.revision)]
    seen = json.loads(decision.input_json)
    assert seen["session"]["teams"] == ["web"]
    assert seen["session"]["creator_ip"] == seen["request"]["remote_ip"] == "127.0.0.1"
    assert seen["spaces"] == [{"id": "root", "name": "root", "labels": []}]
    denials = [each async for each in boss.audit.list(action="login.denied", limit=1)]
    assert denials[0].caller.login == "mallory"


@pytest.mark.parametrize(
    ("rules", "outcome"),
    [
        ("allow := true", "member"),
        ("admin := true", "admin"),
        ("admin := true\ndeny_admin := true\nallow := true", "member"),
        ("admin := true\ndeny_admin := true", "refused"),
        ("allow := true\ndeny := true", "refused"),
        ("admin := true\ndeny := true", "refused"),
        ("allow := false", "refused"),
        ("deny_admin := true", "refused"),
    ],
)
async def test_rules_combine_as_the_contract_says(
    gate: House, boss: Client, rules: str, outcome: str
) -> None:
    await with_policy(boss, rules)
    try:
        came_in = await caller(gate, boss, new_id("ann"))
    except errors.LoginDenied:
        assert outcome == "refused"
    else:
        assert outcome == ("admin" if came_in.admin else "member")


async def test_rules_of_several_policies_count_together(gate: House, boss: Client) -> None:
    await with_policy(boss, "allow := true")
    await with_policy(boss, 'deny if "out" in session.teams')
    await caller(gate, boss, new_id("ann"), "in")
    with pytest.raises(errors.LoginDenied):
        await caller(gate, boss, new_id("ann"), "out")


async def test_an_admin_made_by_a_policy_may_what_an_admin_may(gate: House, boss: Client) -> None:
    await with_policy(boss, 'admin if "platform" in session.teams')
    key = await boss.identity.create_key(new_id("ann"), teams=["platform"])
    async with gate.connect(key.credential) as client:
        await new_stack(client)


async def test_the_teams_that_policies_give_stand_in_for_those_of_the_key(gate: House, boss: Client) -> None:
    await with_policy(
        boss, 'allow := true\nteam contains t if { some t in session.teams; startswith(t, "x-") }'
    )
    writers = 'package p\nimport rego.v1\nwrite if "x-ops" in session.teams\nread if "ops" in session.teams\n'
    stack = await new_stack(boss)
    access = await boss.policies.create(new_id("access"), kind="access", body=writers)
    await boss.policies.attach(access.id, stack.id)
    assert list((await caller(gate, boss, new_id("ann"), "ops", "x-web")).teams) == ["x-web"]
    key = await boss.identity.create_key(new_id("ann"), teams=["ops", "x-ops"])
    async with gate.connect(key.credential) as client:
        await client.runs.create_task(stack.id, "true")
    replaced = await boss.identity.create_key(new_id("ann"), teams=["ops", "x-web"])
    async with gate.connect(replaced.credential) as client:
        with pytest.raises(errors.NotFound):
            await client.stacks.get(stack.id)
    # As published: an empty set replaces nothing.
    kept = await boss.identity.create_key(new_id("ann"), teams=["ops"])
    async with gate.connect(kept.credential) as client:
        await client.stacks.get(stack.id)


async def test_an_admin_key_is_not_asked_so_that_a_mistake_locks_nobody_out(
    gate: House, boss: Client
) -> None:
    broken = await with_policy(boss, 'deny if to_number("no number") > 0')
    with pytest.raises(errors.PolicyFailed, match=broken.name) as raised:
        await caller(gate, boss, new_id("ann"))
    assert (await boss.decisions.get(raised.value.decision_id)).outcome == "failed"
    async with gate.connect() as admin:
        await admin.policies.delete(broken.id)
    await caller(gate, boss, new_id("ann"))


async def test_while_opa_is_away_only_an_admin_key_comes_in(gate: House, boss: Client) -> None:
    await with_policy(boss, "allow := true")
    key = await boss.identity.create_key(new_id("ann"))
    for child in psutil.Process(gate.server.pid).children(recursive=True):
        if child.name() == "opa" and child.status() != psutil.STATUS_ZOMBIE:
            child.send_signal(signal.SIGSTOP)
    async with interlock.connect(gate.address, api_key=key.credential, retry=NEVER) as client:
        with pytest.raises(errors.Unavailable, match="the answer is no"):
            await client.identity.get_caller()
    async with gate.connect() as admin:
        await admin.identity.get_caller()


async def test_a_login_policy_in_shadow_mode_is_recorded_and_never_counts(gate: House, boss: Client) -> None:
    policy = await with_policy(boss, "deny := true", "autoattach-shadow:*")
    came_in = await caller(gate, boss, new_id("ann"), "web")
    assert list(came_in.teams) == ["web"]
    report = await boss.policies.shadow_report(policy.id)
    assert (report.decisions, report.stricter) == (1, 1)


async def test_a_login_policy_cannot_be_attached(boss: Client) -> None:
    policy = await with_policy(boss, "allow := true")
    stack = await new_stack(boss)
    with pytest.raises(errors.InvalidArgument, match="login policies are global"):
        await boss.policies.attach(policy.id, stack.id)


async def test_who_is_no_admin_does_not_read_decisions_about_logins(gate: House, boss: Client) -> None:
    await with_policy(boss, "allow := true")
    key = await boss.identity.create_key(new_id("ann"))
    async with gate.connect(key.credential) as client:
        await client.identity.get_caller()
        [mine] = [each async for each in boss.decisions.list(kind="login", limit=1)]
        with pytest.raises(errors.NotFound):
            await client.decisions.get(mine.id)
        assert [each async for each in client.decisions.list(kind="login")] == []


async def test_many_who_come_in_while_a_policy_changes_are_judged_by_one_set_of_revisions(
    gate: House, boss: Client
) -> None:
    policy = await with_policy(boss, "allow := true")
    keys = [await boss.identity.create_key(new_id("ann")) for _ in range(8)]

    async def come_in(credential: str) -> None:
        async with gate.connect(credential) as client:
            await client.identity.get_caller()

    changed = boss.policies.update(policy.id, body="package p\nimport rego.v1\nallow if not session.admin\n")
    await asyncio.gather(changed, *(come_in(key.credential) for key in keys))
    decisions = [each async for each in boss.decisions.list(kind="login", limit=len(keys))]
    assert {len(each.verdicts) for each in decisions} == {1}
    assert {each.verdicts[0].revision for each in decisions} <= {1, 2}
