"""What attached policies decide, evaluated by the real OPA."""

from __future__ import annotations

import dataclasses

import pytest

from control_plane.policies.combine import AccessLevel
from control_plane.policies.errors import PoliciesChanged
from control_plane.policies.inputs import StackInfo
from policies.workbench.kinds import Kind
from tests.integration.policies.house import ALLOW_ALL, ANN, DENY_NOTHING, REQUEST, STACK, House, ref

# As published for Spacelift, in Rego v0.
PUBLISHED_V0_TASK = """package spacelift

# Note that whatever is not denied is allowed.
deny["only terraform taint and untaint are allowed"] {
  command := input.request.command
  not startswith(command, "terraform taint ")
  not startswith(command, "terraform untaint ")
}

deny[sprintf("no tasks on weekends, %s", [name])] {
  weekday := time.weekday(request.timestamp_ns)
  weekend := {"Saturday", "Sunday"}
  weekend[weekday]
  name = session.name
}

deny["legacy built-ins"] {
  any([re_match("^sudo ", request.command), false])
}

sample { true }
"""
PUBLISHED_V0_ACCESS = """package spacelift

namespace := input.stack.namespace

teams := input.session.teams

write { teams[_] == "web" }
read { teams[_] == "Engineering" }
deny { not input.session.member }
deny_write { is_frozen }

is_frozen = true { input.stack.labels[_] == "frozen" } else = false { true }
"""


@pytest.mark.parametrize(
    ("command", "messages"),
    [
        ("terraform taint x", []),
        ("terraform apply", ["only terraform taint and untaint are allowed"]),
        ("sudo su", ["legacy built-ins", "only terraform taint and untaint are allowed"]),
    ],
)
async def test_a_published_v0_task_policy_runs_unchanged(
    house: House, command: str, messages: list[str]
) -> None:
    policy = await house.load(Kind.TASK, PUBLISHED_V0_TASK)

    decision = await house.task(policy, command=command)

    assert decision.messages == messages
    assert decision.is_sample


@pytest.mark.parametrize(
    ("teams", "member", "labels", "level"),
    [
        (["web"], True, [], AccessLevel.WRITE),
        (["Engineering"], True, [], AccessLevel.READ),
        (["web"], True, ["frozen"], AccessLevel.READ),
        (["web"], False, [], AccessLevel.NONE),
        ([], True, [], AccessLevel.NONE),
    ],
)
async def test_a_published_v0_access_policy_runs_unchanged(
    house: House, teams: list[str], member: bool, labels: list[str], level: AccessLevel
) -> None:
    policy = await house.load(Kind.ACCESS, PUBLISHED_V0_ACCESS)

    decision = await house.access(
        policy,
        session=dataclasses.replace(ANN, teams=teams, member=member),
        stack=dataclasses.replace(STACK, labels=labels),
    )

    assert decision.level is level


async def test_two_policies_with_the_same_package_rules_and_functions_never_meet(house: House) -> None:
    text = 'package spacelift\n\nname(x) := "{}"\n\nword := "{}"\n\ndeny contains name(word) if true\n'
    one = await house.load(Kind.TASK, text.format("one", "one"))
    two = await house.load(Kind.TASK, text.format("two", "two"))

    assert (await house.task(one)).messages == ["one"]
    assert (await house.task(two)).messages == ["two"]
    assert (await house.task(one, two)).messages == ["one", "two"]


async def test_only_attached_policies_are_asked(house: House) -> None:
    await house.load(Kind.TASK, 'package a\ndeny contains "not attached" if true\n')

    assert (await house.task()).is_allowed


@pytest.mark.parametrize(
    "body",
    [
        'request.command == "ls"; session.login == "ann"; stack.id == "network"',
        'input.request.command == "ls"; stack := input.stack; stack.id == "network"',
        'session = input.session; session.login == "ann"',
        'user = session; user.login == "ann"',
        'some stack in ["a", "b"]; stack == "b"',
        'names := {"ann": 1}; names[session.login]',
    ],
)
async def test_short_names_work_and_a_definition_of_ones_own_wins(house: House, body: str) -> None:
    policy = await house.load(Kind.TASK, f'package spacelift\n\ndeny contains "yes" if {{ {body} }}\n')
    writer = await house.load(Kind.ACCESS, ALLOW_ALL)

    decision = await house.engine.decide_task(REQUEST, ANN, STACK, "ls", access=[writer], task=[policy])

    assert decision.messages == ["yes"]


async def test_a_rule_named_like_an_alias_is_the_authors(house: House) -> None:
    policy = await house.load(
        Kind.TASK, 'package a\n\nstack := {"id": "mine"}\n\ndeny contains stack.id if request.command\n'
    )

    assert (await house.task(policy)).messages == ["mine"]


async def test_a_policy_may_refer_to_itself_by_its_own_package_name(house: House) -> None:
    policy = await house.load(
        Kind.TASK,
        'package spacelift.tasks\n\nimport data.spacelift.tasks.word\n\nword := "w"\n\nother := "o"\n\n'
        'deny contains sprintf("%s%s", [word, data.spacelift.tasks.other]) if true\n',
    )  # fmt: skip

    assert (await house.task(policy)).messages == ["wo"]


@pytest.mark.parametrize("import_line", ["", "import data.interlock.lib.sanitized\n"])
async def test_sanitized_hides_a_string_behind_a_short_hash(house: House, import_line: str) -> None:
    policy = await house.load(
        Kind.TASK, f"package a\n{import_line}\ndeny contains sanitized(request.command) if true\n"
    )

    one, again, other = [
        (await house.task(policy, command=command)).messages for command in ("hunter2", "hunter2", "hunter3")
    ]

    assert one == again != other
    assert [len(message) for message in one] == [16]


async def test_without_write_access_task_policies_do_not_count(house: House) -> None:
    reader = await house.load(Kind.ACCESS, "package a\nread := true\n")
    policy = await house.load(Kind.TASK, 'package a\ndeny contains "hidden" if true\n')

    decision = await house.engine.decide_task(REQUEST, ANN, STACK, "ls", access=[reader], task=[policy])

    assert (decision.is_allowed, decision.access.level) == (False, AccessLevel.READ)
    assert decision.messages == []


async def test_an_admin_needs_no_access_policy_and_is_held_by_task_policies(house: House) -> None:
    policy = await house.load(Kind.TASK, 'package a\ndeny contains "no" if session.admin\n')

    decision = await house.task(policy)

    assert (decision.access.level, decision.messages) == (AccessLevel.WRITE, ["no"])


async def test_no_access_policy_is_no_access_but_for_admins(house: House) -> None:
    assert (await house.access()).level is AccessLevel.NONE
    assert not (await house.task(session=ANN)).is_allowed


async def test_the_record_names_each_policy_with_the_revision_that_judged(house: House) -> None:
    writer = await house.load(Kind.ACCESS, ALLOW_ALL, "writer", revision=4)
    policy = await house.load(Kind.TASK, DENY_NOTHING, "nothing", revision=7)

    decision = await house.engine.decide_task(REQUEST, ANN, STACK, "ls", access=[writer], task=[policy])

    assert decision.record()["policies"] == [
        {
            "kind": "access",
            "id": "writer",
            "name": "Policy writer",
            "revision": 4,
            "results": {"write": True},
        },
        {"kind": "task", "id": "nothing", "name": "Policy nothing", "revision": 7, "results": {"deny": []}},
    ]
    assert decision.record()["input"]["request"]["command"] == "ls"


async def test_a_new_revision_judges_as_soon_as_it_is_put(house: House) -> None:
    await house.load(Kind.TASK, 'package a\ndeny contains "old" if true\n', "changing")
    new = await house.load(Kind.TASK, 'package a\ndeny contains "new" if true\n', "changing", revision=2)

    assert (await house.task(new)).messages == ["new"]


async def test_a_decision_by_an_older_revision_than_the_loaded_one_is_refused(house: House) -> None:
    old = await house.load(Kind.TASK, DENY_NOTHING, "outdated")
    await house.load(Kind.TASK, 'package a\ndeny contains "new" if true\n', "outdated", revision=2)

    with pytest.raises(PoliciesChanged):
        await house.task(old)


async def test_the_access_to_many_stacks_is_decided_for_each(house: House) -> None:
    policy = await house.load(Kind.ACCESS, 'package a\nwrite if "mine" in stack.labels\nread := true\n')
    stacks = [StackInfo(id=f"s{n}", name="S", labels=("mine",) if n % 3 == 0 else ()) for n in range(250)]

    decisions = await house.engine.decide_access_to_all(
        REQUEST, ANN, [(stack, [policy] if n % 2 == 0 else []) for n, stack in enumerate(stacks)]
    )

    def expected(n: int) -> AccessLevel:
        if n % 2:
            return AccessLevel.NONE
        return AccessLevel.READ if n % 3 else AccessLevel.WRITE

    assert [decision.level for decision in decisions] == [expected(n) for n in range(250)]


async def test_of_many_stacks_only_the_one_whose_policy_fails_is_hidden(house: House) -> None:
    failing = await house.load(Kind.ACCESS, "package a\nread if to_number(stack.name) > 0\n")
    stacks = [StackInfo(id=name, name=name) for name in ("1", "not a number", "2")]

    decisions = await house.engine.decide_access_to_all(
        REQUEST, ANN, [(stack, [failing]) for stack in stacks]
    )

    assert [decision.level for decision in decisions] == [
        AccessLevel.READ,
        AccessLevel.NONE,
        AccessLevel.READ,
    ]
    failure = decisions[1].failure
    assert failure is not None
    assert failure.policy_id == failing.id


async def test_a_policy_that_was_removed_is_asked_no_more(house: House) -> None:
    policy = await house.load(Kind.TASK, 'package a\ndeny contains "x" if true\n')
    other = await house.load(Kind.TASK, 'package a\ndeny contains "y" if true\n')

    await house.engine.remove(policy.id)

    assert (await house.task(other)).messages == ["y"]


async def test_removing_what_is_not_there_is_harmless(house: House) -> None:
    await house.engine.remove(ref("never-there").id)


async def test_a_function_named_like_a_rule_that_may_be_missing_is_no_such_rule(house: House) -> None:
    policy = await house.load(
        Kind.TASK, 'package a\nsample(x) := x == "keep"\ndeny contains "kept" if sample(request.command)\n'
    )

    decision = await house.task(policy, command="keep")

    assert (decision.messages, decision.is_sample) == (["kept"], False)
