"""What is wrong with a text is said at once, whoever finds it and at whichever stage."""

from __future__ import annotations

import pytest

from policies.workbench.compiler import Compiler
from policies.workbench.findings import Finding, TextRefusedError
from policies.workbench.kinds import Kind
from policies.workbench.syntax import RegoVersion

V1 = """package spacelift

denny contains "x" if input.request.comand == "x"

deny contains "y" if {
	time.now_ns() > 5
	data.other.x
	input.sesion.login == "ann"
}

deny contains z if true

deny contains "n" if helper(input.stack.nam)

helper(x) if startswith(x, 1)

interlock_x := nofunc(3)
"""
V0 = """package spacelift

deny["y"] {
	time.now_ns() > 5
	input.sesion.login == "ann"
}

deny[z] { true }

deny["n"] { data.other; input.stack.nam == "x" }
"""


async def refused(compiler: Compiler, text: str, kind: Kind = Kind.TASK) -> list[Finding]:
    with pytest.raises(TextRefusedError) as caught:
        await compiler.compile(kind, text, "mine.rego")
    return list(caught.value.findings)


async def test_own_rules_types_and_built_ins_are_found_together(compiler: Compiler) -> None:
    found = await refused(compiler, V1)

    assert [(each.line, each.column, each.message, each.hint) for each in found] == [
        (3, 1, "nothing reads `denny`, which is no rule of kind task", "did you mean 'deny'?"),
        (3, 23, "undefined field 'comand' in input.request.comand", "did you mean 'command'?"),
        (6, 2, "the built-in function time.now_ns is not available to policies",
         "use input.request.timestamp_ns, so that a decision can be repeated"),
        (7, 2, "a policy cannot read `data` outside of its own package", "use `input`"),
        (11, 15, "var z is unsafe", ""),
        (13, 29, "undefined field 'nam' in input.stack.nam", "did you mean 'name'?"),
        (15, 14, "startswith: invalid argument(s)", ""),
        (17, 1, "names that begin with interlock_ are reserved", "choose another name"),
        (17, 16, "undefined function nofunc", ""),
    ]  # fmt: skip


async def test_so_they_are_in_v0_and_in_one_rule_with_a_forbidden_built_in(compiler: Compiler) -> None:
    found = await refused(compiler, V0)

    assert [(each.line, each.message) for each in found] == [
        (4, "the built-in function time.now_ns is not available to policies"),
        (8, "var z is unsafe"),
        (10, "a policy cannot read `data` outside of its own package"),
        (10, "undefined field 'nam' in input.stack.nam"),
    ]


async def test_a_forbidden_built_in_does_not_hide_a_type_error(compiler: Compiler) -> None:
    found = await refused(compiler, V0.replace("deny[z] { true }\n\n", ""))

    assert (5, "undefined field 'sesion' in input.sesion.login") in [
        (each.line, each.message) for each in found
    ]


@pytest.mark.parametrize(
    ("kind", "name", "meant"),
    [
        (Kind.TASK, "denny", "deny"),
        (Kind.TASK, "dney", "deny"),
        (Kind.TASK, "den", "deny"),
        (Kind.ACCESS, "reed", "read"),
        (Kind.LOGIN, "allows", "allow"),
    ],
)
async def test_a_misspelt_rule_beside_a_right_one_is_found(
    compiler: Compiler, kind: Kind, name: str, meant: str
) -> None:
    right = {Kind.TASK: "deny contains 1 if false", Kind.ACCESS: "write := true", Kind.LOGIN: "admin := true"}

    [finding] = await refused(compiler, f"package a\n{right[kind]}\n{name} := true\n", kind)

    assert (finding.line, finding.hint) == (3, f"did you mean {meant!r}?")


@pytest.mark.parametrize(
    "rule", ["helper := true", "denny := true\ndeny contains 2 if denny", "demo := true"]
)
async def test_a_rule_that_is_read_or_unlike_is_no_misspelling(compiler: Compiler, rule: str) -> None:
    await compiler.compile(Kind.TASK, f"package a\ndeny contains 1 if false\n{rule}\n", "mine.rego")


async def test_what_parses_as_v1_is_v0_where_only_v0_can_load_it(compiler: Compiler) -> None:
    text = "package spacelift\nimport future.keywords.if\nallow if { any([input.session.admin]) }\n"

    compiled = await compiler.compile(Kind.LOGIN, text, "mine.rego")

    assert compiled.rego_version is RegoVersion.V0


async def test_what_cannot_become_v1_is_named_with_its_line(compiler: Compiler) -> None:
    [finding] = await refused(compiler, 'package a\n\ndeny["x"] { true }\n\nif { input.session.admin }\n')

    assert (finding.line, finding.hint) == (5, "write it in Rego v1")
    assert "cannot become Rego v1" in finding.message


async def test_more_errors_than_opa_gives_at_once_are_all_the_authors(compiler: Compiler) -> None:
    lines = [f'deny contains "{number}" if input.stak' for number in range(150)]

    found = await refused(compiler, "package a\n" + "\n".join(lines) + "\n")

    assert {each.line for each in found} >= set(range(2, 152))
    assert {each.hint for each in found} == {"did you mean 'stack'?"}


async def test_a_long_path_is_not_said_whole(compiler: Compiler) -> None:
    [finding] = await refused(compiler, "package a\ndeny contains 1 if input" + ".a" * 9999 + "\n")

    assert len(finding.message) < 100


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("input.stack.labls[_]", "input.stack.labls[_]"),
        ('input.stack["x y"][0]', 'input.stack["x y"][0]'),
        ("input.run[_].state", "input.run[_].state"),
    ],
)
async def test_a_path_is_said_as_it_was_written(compiler: Compiler, path: str, said: str) -> None:
    [finding] = await refused(compiler, f'package a\ndeny["x"] {{ {path} == 1 }}\n')

    assert finding.message.endswith(f" in {said}")
