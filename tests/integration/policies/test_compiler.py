"""Uploads: what is accepted, and where exactly a finding points."""

from __future__ import annotations

import pytest

from control_plane.policies.errors import PolicyRefused
from interlock.v1 import errors_pb2
from policies.workbench.compiler import MAX_TEXT_BYTES, Compiler
from policies.workbench.findings import Finding, TextRefusedError
from policies.workbench.kinds import Kind
from policies.workbench.syntax import RegoVersion

V1 = 'package spacelift\n\ndeny contains "no" if input.request.command == "x"\n'
V0 = 'package spacelift\n\ndeny["no"] { input.request.command == "x" }\n'


async def findings(compiler: Compiler, text: str, kind: Kind = Kind.TASK) -> list[Finding]:
    with pytest.raises(TextRefusedError) as caught:
        await compiler.compile(kind, text, "mine.rego")
    return list(caught.value.findings)


@pytest.mark.parametrize(("text", "version"), [(V0, RegoVersion.V0), (V1, RegoVersion.V1)])
async def test_both_dialects_are_accepted_and_told_apart(
    compiler: Compiler, text: str, version: RegoVersion
) -> None:
    compiled = await compiler.compile(Kind.TASK, text, "mine.rego")

    assert (compiled.rego_version, compiled.text, compiled.kind) == (version, text, Kind.TASK)


async def test_an_access_policy_that_names_a_chat_is_accepted_as_it_is(compiler: Compiler) -> None:
    text = 'package spacelift\n\nwrite { input.slack.channel.name == "operations" }\n'

    assert (await compiler.compile(Kind.ACCESS, text, "mine.rego")).text == text


@pytest.mark.parametrize("separator", ["\n", "\r\n"])
@pytest.mark.parametrize("head", ['deny contains "é" if {', 'deny["é"] {'])
async def test_a_syntax_error_is_found_at_its_line_and_column(
    compiler: Compiler, head: str, separator: str
) -> None:
    text = separator.join(["package spacelift", "", head, "\ttrue", "}", "", "  )", ""])

    [finding] = await findings(compiler, text)

    assert (finding.file, finding.line, finding.column) == ("mine.rego", 7, 3)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ('package spacelift\ndeny contains "é" if input.stack.nmae == "x"\n', 2, 22),
        ('package spacelift\ndeny["no"] { input.stack.nmae == "x" }\n', 2, 14),
        ('package spacelift\ndeny contains "no" if stack.nmae == "x"\n', 2, 23),
    ],
)
async def test_an_unknown_field_is_named_with_the_nearest_one(
    compiler: Compiler, text: str, line: int, column: int
) -> None:
    [finding] = await findings(compiler, text)

    assert (finding.line, finding.column) == (line, column)
    assert "nmae" in finding.message
    assert finding.hint == "did you mean 'name'?"


async def test_all_type_errors_are_found_at_once(compiler: Compiler) -> None:
    text = (
        "package spacelift\n"
        'deny contains "a" if input.stack.nmae == "x"\n'
        'deny contains "b" if input.session.admin == "yes"\n'
        'deny contains "c" if input.stack.labels[_] == 1\n'
    )

    found = await findings(compiler, text)

    assert [finding.line for finding in found] == [2, 3, 4]


async def test_a_command_is_known_to_task_policies_only(compiler: Compiler) -> None:
    [finding] = await findings(
        compiler, 'package spacelift\nread if input.request.command == "x"\n', Kind.ACCESS
    )

    assert "'command'" in finding.message


@pytest.mark.parametrize("field", ["locked_by", "project_root", "terraform_version", "tracked_commit"])
async def test_a_field_that_may_be_null_may_be_compared_with_null(compiler: Compiler, field: str) -> None:
    await compiler.compile(
        Kind.TASK, f'package a\ndeny contains "x" if input.stack.{field} == null\n', "a.rego"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("\n\t \n", "empty"),
        ("# only a comment\n", "empty module"),
        ("package a\x00\n", "NUL"),
        ("package a\n" + "#" * MAX_TEXT_BYTES, "at most 262144"),
        ("package a\nx := \ud800\n", "UTF-8"),
    ],
)
async def test_a_text_that_is_no_policy_is_refused_in_words(
    compiler: Compiler, text: str, problem: str
) -> None:
    [finding] = await findings(compiler, text)

    assert problem in finding.message


async def test_the_largest_text_is_accepted(compiler: Compiler) -> None:
    text = V1 + "#" * (MAX_TEXT_BYTES - len(V1))

    await compiler.compile(Kind.TASK, text, "large.rego")


async def test_deep_nesting_is_refused(compiler: Compiler) -> None:
    found = await findings(compiler, "package a\nx := " + "[" * 120_000 + "]" * 120_000 + "\n")

    assert "recursion depth" in found[0].message


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        (Kind.TASK, 'package a\ndenny contains "x" if true\n', "must define `deny`"),
        (Kind.TASK, "package a\nread := true\n", "must define `deny`"),
        (Kind.ACCESS, "package a\nallow := true\n", "must define `deny` or `deny_write`"),
        (Kind.TASK, "package a\ndeny if true\n", "must be a set of messages"),
        (Kind.TASK, 'package a\ndeny := ["x"]\n', "must be a set of messages"),
        (Kind.TASK, 'package a\ndeny["x"] := "y" if true\n', "must be a set of messages"),
        (Kind.TASK, "package a\ndeny(x) := x\n", "must be a set of messages"),
        (Kind.ACCESS, 'package a\nread contains "x" if true\n', "must be a boolean"),
        (Kind.ACCESS, 'package a\nread := "yes"\n', "must be a boolean"),
        (Kind.ACCESS, 'package a\nread["x"] { true }\n', "must be a boolean"),
    ],
)
async def test_a_policy_without_the_rules_of_its_kind_is_refused(
    compiler: Compiler, kind: Kind, text: str, problem: str
) -> None:
    found = await findings(compiler, text, kind)

    assert any(problem in finding.message for finding in found)


async def test_a_misspelt_rule_is_told_the_right_name(compiler: Compiler) -> None:
    [finding] = await findings(compiler, 'package a\ndenny contains "x" if true\n')

    assert finding.hint == "did you mean 'deny'?"


@pytest.mark.parametrize("package", ["spacelift", "a.b.c", 'policies["my policy"]', "rules", "request"])
async def test_any_package_name_is_accepted(compiler: Compiler, package: str) -> None:
    await compiler.compile(
        Kind.TASK, f'package {package}\n\ndeny contains "x" if request.command == "x"\n', "a"
    )


async def test_an_annotation_for_language_servers_is_accepted(compiler: Compiler) -> None:
    text = (
        "package spacelift\n\n# METADATA\n# schemas:\n#   - input: schema.task\n"
        'deny contains "x" if input.request.command == "x"\n'
    )

    await compiler.compile(Kind.TASK, text, "a.rego")


async def test_the_status_details_carry_every_finding(compiler: Compiler) -> None:
    with pytest.raises(TextRefusedError) as caught:
        await compiler.compile(Kind.TASK, 'package a\ndeny contains "a" if input.foo\n', "mine.rego")

    [detail] = PolicyRefused(caught.value.findings).details
    assert isinstance(detail, errors_pb2.PolicyRefused)
    [finding] = detail.findings
    assert (finding.file, finding.line, finding.column) == ("mine.rego", 2, 22)
