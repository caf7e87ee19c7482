"""The author's tests are a part of the upload's check, with its limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane import errors
from control_plane.identity.principal import Principal
from control_plane.policies.catalog import PolicyCatalog
from control_plane.policies.engine import PolicyEngine
from control_plane.policies.errors import PolicyRefused
from control_plane.policies.opa import SupervisedOpa
from control_plane.storage.database import Database
from control_plane.storage.migrate import migrate
from interlock.v1 import errors_pb2, policy_pb2
from interlock.v1 import policy_service_pb2 as rpc
from policies.workbench import upload
from policies.workbench.compiler import Compiler
from policies.workbench.findings import Finding, TextRefusedError
from policies.workbench.kinds import Kind
from tests.integration.policies.house import SANITIZER_KEY, House

ADMIN = Principal(id="key_1", login="root", name="Root", admin=True)
POLICY = 'package spacelift\n\ndeny["no"] { session.admin == false }\n'
GOOD = """package spacelift_test

import data.spacelift

test_no if spacelift.deny == {"no"} with input as {"session": {"admin": false}}
"""
BAD = GOOD + "\ntest_wrong if {\n\tcount(spacelift.deny) == 7\n}\n"


async def refused(
    compiler: Compiler, tests: dict[str, str], text: str = POLICY
) -> list[tuple[str, int, str]]:
    with pytest.raises(TextRefusedError) as caught:
        await upload.accepted(compiler, Kind.TASK, text, "mine.rego", tests)
    return [(each.file, each.line, each.message) for each in caught.value.findings]


async def test_a_text_whose_tests_pass_is_accepted(compiler: Compiler) -> None:
    compiled = await upload.accepted(compiler, Kind.TASK, POLICY, "mine.rego", {"a": GOOD, "../b": GOOD})

    assert compiled.text == POLICY


async def test_a_failing_test_refuses_with_its_name_and_line(compiler: Compiler) -> None:
    found = await refused(
        compiler, {"good_test.rego": GOOD.replace("_test\n", "_other\n"), "bad_test.rego": BAD}
    )

    assert found == [("bad_test.rego", 7, "the test test_wrong failed")]


async def test_what_is_wrong_with_policy_and_tests_is_said_together(compiler: Compiler) -> None:
    tests = {"a_test.rego": "package a\ntest_x {\n", "b_test.rego": "package b\nx := 1\n"}

    found = await refused(compiler, tests, 'package spacelift\ndeny["no"] { input.sesion }\n')

    assert found == [
        ("a_test.rego", 3, "unexpected eof token"),
        ("b_test.rego", 0, "there is no test in it"),
        ("mine.rego", 2, "undefined field 'sesion' in input.sesion"),
    ]


@pytest.mark.parametrize(
    "expression",
    [
        'http.send({"method": "get", "url": "http://127.0.0.1"})',
        "opa.runtime().env.PATH",
        "time.now_ns() > 0",
    ],
)
async def test_a_test_may_call_no_more_than_a_policy(compiler: Compiler, expression: str) -> None:
    [(file, line, message)] = await refused(compiler, {"t": f"package t\n\ntest_x if {expression}\n"})

    assert (file, line) == ("t", 3)
    assert message.startswith("the built-in function ")


async def test_a_tests_annotation_cannot_reach_for_files(compiler: Compiler) -> None:
    text = 'package t\n\n# METADATA\n# schemas:\n#   - input: {"$ref": "file:///etc/passwd"}\ntest_x if input.a\n'

    assert await refused(compiler, {"t": text}) == [("t", 3, "an inline schema cannot have a `$ref`")]


@pytest.mark.parametrize(
    "hostile",
    [
        'count([sprintf("%01000000d", [i]) | some i in numbers.range(1, 9000)]) == 7',
        "count([1 | some i in numbers.range(1, 9000); some j in numbers.range(1, 9000); i == j]) == 7",
    ],
    ids=["memory", "time"],
)
async def test_a_test_that_eats_memory_or_time_is_ended(compiler: Compiler, hostile: str) -> None:
    [(file, _, message)] = await refused(compiler, {"t": f"package t\n\ntest_x if {hostile}\n"})

    assert file == "t"
    assert "takes too much memory" in message or "takes more than" in message


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/interlock.db")
    migrate(database.engine)
    yield database
    database.close()


def given(name: str, body: str) -> rpc.PolicyTestFile:
    return rpc.PolicyTestFile(file_name=name, body=body)


async def test_the_api_refuses_and_changes_nothing(db: Database, house: House) -> None:
    catalog = PolicyCatalog(db, house.engine)
    wanted = policy_pb2.Policy(name="p", kind=policy_pb2.POLICY_KIND_TASK, body=POLICY)
    await catalog.create(ADMIN, rpc.CreatePolicyRequest(policy=wanted, tests=[given("t", GOOD)]))
    changed = policy_pb2.Policy(id="p", body=POLICY.replace("false", "true"))
    request = rpc.UpdatePolicyRequest(policy=changed, tests=[given("t", GOOD)])
    request.update_mask.paths.append("body")

    with pytest.raises(PolicyRefused) as caught:
        await catalog.update(ADMIN, request)

    assert [(each.file, each.line) for each in caught.value.findings] == [("t", 5)]
    assert (await catalog.get("p")).revision == 1
    request.tests.append(given("t", GOOD))
    with pytest.raises(errors.InvalidField, match="twice"):
        await catalog.update(ADMIN, request)
    request.update_mask.paths[:] = ["labels"]
    with pytest.raises(errors.InvalidField, match="name body in update_mask"):
        await catalog.update(ADMIN, request)


def test_more_findings_than_an_answer_takes_are_counted() -> None:
    refusal = PolicyRefused([Finding("p.rego", line, 1, "x" * 400, "y" * 400) for line in range(1, 101)])

    [detail] = refusal.details
    assert isinstance(detail, errors_pb2.PolicyRefused)
    assert detail.ByteSize() < 16 << 10
    assert detail.findings[-1].message.startswith(f"{101 - len(detail.findings)} more are not shown")
    assert len(str(refusal)) < 16 << 10


@pytest.fixture
def linter(tmp_path: Path) -> Path:
    """Says what regal 0.38.1 said of a policy in v0; the real one takes Go and a minute to build."""
    path = tmp_path / "regal"
    recorded = Path(__file__).with_name("regal_report.json")
    path.write_text(f"#!/bin/sh\nsed s/task.rego/policy.rego/ {recorded}\nexit 3\n")
    path.chmod(0o755)
    return path


async def test_regals_advice_refuses_nothing(compiler: Compiler, linter: Path) -> None:
    compiled = await upload.accepted(compiler, Kind.TASK, POLICY, "mine.rego", {}, linter)

    assert [(each.file, each.rule) for each in compiled.warnings] == [
        ("mine.rego", "regal/idiomatic/use-contains"),
        ("mine.rego", "regal/idiomatic/use-if"),
    ]


async def test_regals_advice_stands_beside_what_refuses(compiler: Compiler, linter: Path) -> None:
    with pytest.raises(TextRefusedError) as caught:
        await upload.accepted(compiler, Kind.TASK, POLICY.replace("admin", "adm"), "mine.rego", {}, linter)

    assert [each.severity.value for each in caught.value.findings] == ["error", "warning", "warning"]


async def test_a_regal_that_does_not_work_is_said_and_refuses_nothing(
    compiler: Compiler, tmp_path: Path
) -> None:
    broken = tmp_path / "regal"
    broken.write_text("#!/bin/sh\necho no room\nexit 1\n")
    broken.chmod(0o755)

    [warning] = (await upload.accepted(compiler, Kind.TASK, POLICY, "mine.rego", {}, broken)).warnings

    assert warning.message == "Regal gave no report that is understood: no room"


async def test_the_api_hands_advice_to_who_stores(
    db: Database, opa_path: Path, compiler: Compiler, linter: Path
) -> None:
    engine = PolicyEngine(
        SupervisedOpa(opa_path), compiler, sanitizer_key=SANITIZER_KEY, deadline_s=1.5, linter=linter
    )
    await engine.start([])
    try:
        wanted = policy_pb2.Policy(name="p", kind=policy_pb2.POLICY_KIND_TASK, body=POLICY)
        stored = await PolicyCatalog(db, engine).create(ADMIN, rpc.CreatePolicyRequest(policy=wanted))
    finally:
        await engine.stop()

    assert [each.message for each in stored.warnings] == [
        "Use the `contains` keyword",
        "Use the `if` keyword",
    ]
    assert stored.warnings[0].severity == errors_pb2.POLICY_FINDING_SEVERITY_WARNING
