"""Texts that reach for more than their input. Each is refused; the ones that are not are shown to be harmless."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.workbench.compiler import Compiler
from policies.workbench.findings import TextRefusedError
from policies.workbench.kinds import Kind
from tests.integration.policies.house import House

FORBIDDEN = [
    'http.send({"method": "get", "url": "http://127.0.0.1"})',
    'http["send"]({"method": "get", "url": "http://127.0.0.1"})',
    'net.lookup_ip_addr("localhost")',
    "opa.runtime()",
    "opa.runtime().env.PATH",
    'rego.parse_module("a.rego", "package a")',
    "time.now_ns()",
    'time["now_ns"]()',
    "[x | x := time.now_ns()]",
    "{x: y | x := time.now_ns(); y := 1}",
    'trace("x")',
    'json.match_schema({}, {"$ref": "http://127.0.0.1/"})',
    'json.verify_schema({"$ref": "file:///etc/passwd"})',
    "input.request with time.now_ns as 1",
    "input.request with http.send as count",
    "count([]) with count as http.send",
    "count([]) with count as opa.runtime",
]
FOREIGN = [
    "data.interlock.policies.other.deny",
    'data["interlock"].policies["other"]',
    "data.interlock.sanitizer_key",
    "data.interlock.token_sha256",
    "data.system.authz.allow",
    "data[x]",
    "walk(data, [p, v])",
    "x := data",
    "[data]",
    "true with data.interlock.policies.other.deny as set()",
    "data.interlock.lib.sanitized",
    "data.interlock.lib",
]
V0, V1 = 'deny["no"] {{ {} }}', 'deny contains "no" if {{ {} }}'


async def assert_refused(compiler: Compiler, text: str, line: int | None = None) -> None:
    with pytest.raises(TextRefusedError) as caught:
        await compiler.compile(Kind.TASK, text, "evil.rego")
    if line is not None:
        assert caught.value.findings[0].line == line


@pytest.mark.parametrize("rule", [V0, V1])
@pytest.mark.parametrize("expression", FORBIDDEN)
async def test_a_forbidden_built_in_is_refused_at_its_line(
    compiler: Compiler, expression: str, rule: str
) -> None:
    await assert_refused(compiler, f"package spacelift\n\n\n{rule.format(expression)}\n", line=4)


@pytest.mark.parametrize("rule", [V0, V1])
@pytest.mark.parametrize("expression", [e for e in FOREIGN if e != "data.interlock.lib.sanitized"])
async def test_another_policys_or_interlocks_own_data_cannot_be_read(
    compiler: Compiler, expression: str, rule: str
) -> None:
    await assert_refused(compiler, f"package spacelift\n\n\n{rule.format(expression)}\n", line=4)


@pytest.mark.parametrize(
    "line",
    [
        "import data.interlock.policies.other",
        'import data.interlock.policies["other"] as mine',
        "import data",
        "import data.spacelift_other.deny",
    ],
)
async def test_another_policy_cannot_be_imported(compiler: Compiler, line: str) -> None:
    await assert_refused(compiler, f'package spacelift\n{line}\ndeny contains "x" if true\n', line=2)


@pytest.mark.parametrize(
    "package", ["system.authz", "system", "interlock.dispatcher", 'interlock.policies["other"]', "interlock"]
)
async def test_a_reserved_package_is_refused(compiler: Compiler, package: str) -> None:
    await assert_refused(compiler, f'package {package}\ndeny contains "x" if true\nallow := true\n', line=1)


@pytest.mark.parametrize(
    "line",
    [
        'interlock_identity := {"kind": "task", "revision": 1}',
        'interlock_identity["kind"] := "access"',
        "interlock_identity.revision := 9",
        "import input.stack as interlock_identity",
    ],
)
async def test_the_rule_that_is_judged_by_cannot_be_overridden(compiler: Compiler, line: str) -> None:
    await assert_refused(compiler, f'package spacelift\n{line}\ndeny contains "x" if true\n', line=2)


@pytest.mark.parametrize("reference", ["file://{folder}/any.json", "http://127.0.0.1:1/any.json"])
async def test_an_inline_schema_cannot_reach_for_files_or_addresses(
    compiler: Compiler, tmp_path: Path, reference: str
) -> None:
    (tmp_path / "any.json").write_text("{}")
    reference = reference.format(folder=tmp_path)

    await assert_refused(
        compiler,
        f'package spacelift\n# METADATA\n# schemas:\n#   - input: {{"$ref": "{reference}"}}\n'
        'deny contains "x" if input.request\n',
    )


async def test_a_package_that_looks_like_another_policys_reads_only_itself(house: House) -> None:
    victim = await house.load(
        Kind.TASK, 'package victim\nsecret := "s"\ndeny contains "v" if true\n', "victim"
    )
    thief = await house.load(
        Kind.TASK, 'package victim\nsecret := "own"\ndeny contains data.victim.secret if true\n', "thief"
    )

    decision = await house.task(victim, thief)

    assert decision.messages == ["own", "v"]


async def test_the_marks_of_the_template_in_a_text_change_nothing_else(house: House) -> None:
    text = 'package spacelift\ndeny contains "@interlock:revision@ @interlock:policy@" if true\n'
    policy = await house.load(Kind.TASK, text)

    assert len((await house.task(policy)).messages) == 1
