"""`interlock policy new|check|test|eval|schema` as an author types them, with nothing but OPA: no server, no key."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from interlock.cli import app
from interlock.cli.policy_tests import ranges
from policies.workbench import guessing, regal, toolchain
from policies.workbench.compiler import Compiler
from policies.workbench.kinds import Kind

KINDS = [kind.value for kind in Kind]
TAINT = """package no_taint

deny contains message if {
	startswith(input.request.command, "terraform taint")
	not is_platform
	message := sprintf("%s may not taint", [session.login])
}

deny contains "not at night" if is_night

is_platform if "platform" in input.session.teams

is_night if input.request.command == "sleep"
"""
INPUT = {"request": {"command": "terraform taint x"}, "session": {"login": "ana", "teams": ["web"]}}
# Two policies of one package in one folder, with their tests, as published sets of policies have them.
PUBLISHED = {
    "locked.rego": 'package spacelift\n\ndeny["locked"] { stack.locked_by != null }\n',
    "locked_test.rego": """package spacelift

test_locked { deny["locked"] with input as {"stack": {"locked_by": "ana"}} }

test_open { count(deny) == 0 with input as {"stack": {"locked_by": null}} }
""",
    "destroy.rego": """package spacelift

deny["no"] { re_match("destroy", request.command) }

sample { sanitized("x") }
""",
    "destroy_test.rego": """package spacelift

import future.keywords.if

test_destroy if {
	input := {"request": {"command": "destroy"}}
	deny == {"no"} with input as input
}
""",
}


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(
    opa_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """One command in an empty folder, where no control plane can be found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INTERLOCK_OPA", str(opa_path))
    for name in ("INTERLOCK_ADDRESS", "INTERLOCK_TOKEN", "INTERLOCK_API_KEY", "INTERLOCK_REGAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INTERLOCK_PROFILES_FILE", str(tmp_path / "none.toml"))

    def typed(*arguments: str) -> Ran:
        code = app.run(["policy", *arguments])
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return typed


def written(**texts: str) -> None:
    for name, text in texts.items():
        Path(name.replace("__", ".")).write_text(text)


@pytest.mark.parametrize("kind", KINDS)
def test_what_new_writes_passes_every_check_as_it_is(run: Run, kind: str) -> None:
    made = run("new", kind, "mine", "--name", "first")

    assert made.out.split() == ["mine/first.rego", "mine/first_test.rego", "mine/first.json"]
    assert (run("check", "mine", "--no-lint").code, run("check", "mine", "--kind", kind).code) == (0, 0)
    tested = run("test", "mine", "--threshold", "100")
    assert (tested.code, tested.out) == (0, "mine/first.rego\t100.0 %\n")
    judged = run("eval", "mine/first.rego", "--input", "mine/first.json")
    assert judged.code == 0
    assert "✓" in judged.out


def test_new_writes_over_nothing(run: Run) -> None:
    written(task_test__rego="mine")

    refused = run("new", "task")

    assert refused.code == 1
    assert "task_test.rego is there already" in refused.err
    assert not Path("task.rego").exists()


@pytest.mark.parametrize("name", ["no-taint", "input", "9", "a_test", "../x"])
def test_new_refuses_a_name_that_is_none_for_a_package(run: Run, name: str) -> None:
    assert run("new", "task", "--name", name).code == 2


def test_check_shows_all_findings_of_all_files_with_their_place(run: Run) -> None:
    written(
        a__rego='package a\ndeny contains "x" if input.sesion\ndeny contains "y" if time.now_ns()\n',
        b__rego=TAINT,
        c__rego="package c\nallow {\n",
        d_test__rego="package d\ntest_x if true\n",
    )

    checked = run("check", "a.rego", "b.rego", "c.rego", "d_test.rego")

    assert checked.code == 1
    assert checked.out.splitlines() == [
        "a.rego:2:22: undefined field 'sesion' in input.sesion",
        "  did you mean 'session'?",
        "a.rego:3:22: the built-in function time.now_ns is not available to policies",
        "  use input.request.timestamp_ns, so that a decision can be repeated",
        "c.rego:3: unexpected eof token",
    ]
    assert checked.err == "4 files checked: 3 errors, 0 warnings\n"


def test_check_gives_findings_as_json_and_as_sarif(run: Run) -> None:
    written(a__rego='package a\ndeny contains "x" if input.sesion\n')

    [finding] = json.loads(run("check", "a.rego", "--output", "json").out)
    sarif = json.loads(run("check", "a.rego", "-o", "sarif").out)

    assert finding == {
        "file": "a.rego", "line": 2, "column": 22, "message": "undefined field 'sesion' in input.sesion",
        "hint": "did you mean 'session'?", "rule": "opa/rego_type_error", "severity": "error",
    }  # fmt: skip
    assert sarif["version"] == "2.1.0"
    [told] = sarif["runs"]
    assert [rule["id"] for rule in told["tool"]["driver"]["rules"]] == ["opa/rego_type_error"]
    [result] = told["results"]
    assert (result["ruleId"], result["level"]) == ("opa/rego_type_error", "error")
    place = result["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "a.rego"}, "region": {"startLine": 2, "startColumn": 22}}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('package a\ndeny["x"] { true }\n', Kind.TASK),
        ("package a\ndefault write = false\nwrite { true }\ndeny { false }\n", Kind.ACCESS),
        ("package a\napprove if true\n", Kind.APPROVAL),
        ('package a\nallow := true\ndeny := false\nteam contains "x"\n', Kind.LOGIN),
        ("package a\n# METADATA\n# schemas:\n#   - input: schema.access\ndeny if true\n", Kind.ACCESS),
    ],
)
async def test_the_kind_is_seen_from_rules_or_an_annotation(
    compiler: Compiler, text: str, kind: Kind
) -> None:
    assert guessing.kind_of(await compiler.parse(text, "a.rego"), "a.rego") is kind


def test_a_kind_that_cannot_be_seen_is_asked_for_and_taken_from_the_folder(run: Run) -> None:
    written(
        a__rego="package a\ndeny if input.session.admin\n", b__rego='package b\ndenny contains "x" if true\n'
    )
    Path("login").mkdir()
    Path("login/a.rego").write_text(Path("a.rego").read_text())

    assert "say it with --kind task|access|approval|login" in run("check", "a.rego").out
    assert "did you mean 'deny'?" in run("check", "b.rego").out
    assert run("check", "a.rego", "--kind", "access").code == 0
    assert run("check", "login").code == 0


def test_check_says_what_it_cannot_read(run: Run) -> None:
    Path("bad.rego").write_bytes(b"package a\xff\n")

    assert "bad.rego: not UTF-8 at byte 9" in run("check", "bad.rego").err
    assert "none.rego: No such file" in run("check", "none.rego").err
    assert run("check", "no-folder").code == 1


def test_regals_report_becomes_warnings() -> None:
    """As regal 0.38.1 wrote it; it takes Go and a minute to build, so no test runs it."""
    recorded = json.loads(Path(__file__).with_name("regal_report.json").read_text())

    first, second = regal.of_report(recorded)

    assert (first.file, first.line, first.column, first.severity.value) == ("task.rego", 5, 1, "warning")
    assert (first.rule, first.message) == ("regal/idiomatic/use-contains", "Use the `contains` keyword")
    assert first.hint.endswith("/regal/rules/idiomatic/use-contains")
    assert second.rule == "regal/idiomatic/use-if"


def test_a_regal_that_is_named_and_not_there_is_an_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written(a__rego=TAINT)
    monkeypatch.setenv("INTERLOCK_REGAL", "/none/regal")

    refused = run("check", "a.rego")

    assert refused.code == 1
    assert "INTERLOCK_REGAL names /none/regal" in refused.err
    assert run("check", "a.rego", "--no-lint").code == 0


def test_policies_of_one_package_are_tested_each_with_its_own_tests(run: Run) -> None:
    for name, text in PUBLISHED.items():
        Path(name).write_text(text)

    tested = run("test")

    assert tested.out.splitlines() == ["destroy.rego\t50.0 %\tnot covered: 5", "locked.rego\t100.0 %"]
    assert tested.err == "3 passed, 0 failed, 0 skipped, 66.7 % covered\n"


def test_a_v1_test_of_a_v0_policy_runs_and_finds_data_and_what_it_imports(run: Run) -> None:
    written(
        old__rego='package a\n\n# Old.\ndeny["no"] {\n\tinput.request.command == "x"\n}\n',
        old_test__rego="package a_test\n\nimport data.a\nimport data.given\n\n"
        "test_no if a.deny == {data.told} with input as given.asked\n",
        given__rego='package given\n\nasked := {"request": {"command": "x"}}\n',
        data__json='{"told": "no"}',
    )

    tested = run("test")

    assert (tested.code, tested.out) == (0, "given.rego\t100.0 %\nold.rego\t100.0 %\n")


def test_a_failing_test_is_explained_at_the_authors_lines(run: Run) -> None:
    asked = (
        'count(no_taint.deny) == 0 with input as {"request": {"command": "terraform taint"}, '
        '"session": {"login": "bo", "teams": []}}'
    )
    written(
        no_taint__rego=TAINT.replace("startswith", 'print("saw", input.session.login)\n\tstartswith', 1),
        no_taint_test__rego="package no_taint_test\n\nimport data.no_taint\n\ntest_web if {\n"
        f"\t{asked}\n}}\n\ntodo_test_more if false\n",
    )

    tested = run("test")

    assert tested.code == 1
    assert tested.out.splitlines()[:4] == [
        "no_taint_test.rego:5: test_web failed",
        "  prints saw bo",
        "  no_taint_test.rego:5: test_web does not hold: line 6 stops it",
        f"       6 ✗ {asked}",
    ]
    assert 'no_taint.rego:3: deny says "bo may not taint"' in tested.out
    assert "no_taint_test.rego:9: todo_test_more is skipped" in tested.out
    assert tested.err == "0 passed, 1 failed, 1 skipped\n"


def test_a_failing_test_shows_the_input_that_it_gave(run: Run) -> None:
    written(
        no_taint__rego=TAINT,
        no_taint_test__rego="package no_taint_test\n\nimport data.no_taint\n\n"
        'asked := {"request": {"command": "terraform plan"}}\n\n'
        "test_plan if count(no_taint.deny) == 1 with input as asked\n",
    )

    assert 'input.request.command is "terraform plan"' in run("test").out


def test_eval_explains_a_rule_that_two_lines_ask_for_at_both(run: Run) -> None:
    written(
        a__rego='package a\n\ndeny contains "x" if helps\n\ndeny contains "y" if helps\n\n'
        "helps if input.session.admin\n",
        input__json='{"session": {"admin": false}}',
    )

    assert run("eval", "a.rego", "--input", "input.json").out.count("input.session.admin is false") == 2


def test_coverage_names_the_authors_lines_and_may_be_asked_for(run: Run) -> None:
    written(
        no_taint__rego=TAINT,
        no_taint_test__rego="package no_taint\n\ntest_platform if count(deny) == 0 with input as "
        '{"request": {"command": "terraform taint"}, "session": {"teams": ["platform"]}}\n',
    )

    missed = run("test", "--threshold", "80")
    [covered] = json.loads(run("test", "--output", "json").out)["coverage"]

    assert missed.code == 1
    assert "not covered: 3, 6, 9, 13" in missed.out
    assert "at least 80 % are asked for" in missed.err
    assert covered == {"file": "no_taint.rego", "percent": 42.9, "missed": [3, 6, 9, 13]}


def test_texts_that_cannot_be_loaded_together_are_named_with_their_lines(run: Run) -> None:
    written(
        a__rego='package a\ndeny contains "x" if true\n',
        a_test__rego="package a_test\n\ntest_a if nofunc(1)\n",
        b__rego="package b\ndeny {\n",
    )

    tested = run("test")

    assert tested.code == 1
    assert tested.out.splitlines()[:2] == [
        "a_test.rego:3:11: undefined function nofunc",
        "b.rego:3: unexpected eof token",
    ]


def test_a_folder_without_tests_fails_and_says_how_to_name_them(run: Run) -> None:
    written(a__rego=TAINT)

    tested = run("test")

    assert (tested.code, tested.out) == (1, "a.rego\t0.0 %\tnot covered: 3-6, 9, 11, 13\n")
    assert "name it x_test.rego" in tested.err
    assert run("test", "nowhere").code == 1


def test_eval_says_which_line_made_a_message_and_which_stopped_a_rule(run: Run) -> None:
    written(no_taint__rego=TAINT, input__json=json.dumps(INPUT))

    judged = run("eval", "no_taint.rego", "--input", "input.json")

    assert judged.code == 0
    assert judged.out.splitlines() == [
        "no_taint.rego denies",
        'deny\t["ana may not taint"]',
        "",
        'no_taint.rego:3: deny says "ana may not taint"',
        '     4 ✓ startswith(input.request.command, "terraform taint")',
        "     5 ✓ not is_platform",
        '     6 ✓ message := sprintf("%s may not taint", [session.login])',
        "no_taint.rego:9: deny does not hold: line 9 stops it",
        "     9 ✗ is_night",
        "         no_taint.rego:13: is_night does not hold: line 13 stops it",
        '             13 ✗ input.request.command == "sleep"',
        '                  input.request.command is "terraform taint x"',
    ]


def test_eval_shows_prints_and_values_of_a_v0_policy_at_its_own_lines(run: Run) -> None:
    written(
        old__rego='package spacelift\n\nwrite {\n\tprint("teams", session.teams)\n'
        '\tteam := session.teams[_]\n\tstartswith(team, "ops")\n\tinput.stack.locked_by == null\n}\n',
        input__json=json.dumps({"session": {"teams": ["web", "db"]}}),
    )

    judged = run("eval", "old.rego", "--input", "input.json")
    whole = json.loads(run("eval", "old.rego", "--input", "input.json", "-o", "json").out)

    assert judged.out.splitlines() == [
        "old.rego gives no access",
        'old.rego:4: prints teams ["web", "db"]',
        "",
        "old.rego:3: write does not hold: line 6 stops it, for each of 2 values",
        '     4 ✓ print("teams", session.teams)',
        "     5 ✓ team := session.teams[_]",
        '     6 ✗ startswith(team, "ops")',
        '         team is "web"',
        '         team is "db"',
    ]
    assert (whole["outcome"], whole["values"]) == ("gives no access", {})
    assert whole["prints"] == [{"line": 4, "text": 'teams ["web", "db"]'}]
    assert whole["clauses"][0]["stopped"]["number"] == 6


def test_eval_gives_the_result_where_its_way_is_too_long_to_be_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(
        a__rego='package a\n\ndeny contains "x" if {\n\tsome i in numbers.range(1, 300)\n\ti == 300\n}\n',
        input__json="{}",
    )
    monkeypatch.setattr(toolchain, "_OUTPUT_LIMIT_BYTES", 300_000)

    judged = run("eval", "a.rego", "--input", "input.json")

    assert judged.out.splitlines() == ["a.rego denies", 'deny\t["x"]']
    assert "too much for its way to be shown" in judged.err


def test_eval_says_which_fields_no_real_input_has(run: Run) -> None:
    document = {"request": {"comand": "ls"}, "stack": {"worker_pool": {"nam": "x"}, "labels": ["a"]}, "x": 1}
    written(no_taint__rego=TAINT, input__json=json.dumps(document))

    judged = run("eval", "no_taint.rego", "--input", "input.json")

    assert judged.code == 0
    assert judged.err.splitlines() == [
        "input.json: no real input has input.request.comand; did you mean 'command'?",
        "input.json: no real input has input.stack.worker_pool.nam; did you mean 'name'?",
        "input.json: no real input has input.x; one of: request, session, stack",
    ]


def test_eval_names_the_line_of_a_policy_that_cannot_be_evaluated(run: Run) -> None:
    written(
        broken__rego='package a\n\ndeny contains "x" if {\n\tto_number(input.session.login) > 3\n}\n',
        input__json=json.dumps(INPUT),
    )

    judged = run("eval", "broken.rego", "--input", "input.json")

    assert judged.code == 1
    assert judged.out.startswith("broken.rego:4 could not be evaluated, which refuses: eval_builtin_error")


def test_eval_shows_findings_first_and_wants_one_input(run: Run) -> None:
    written(a__rego='package a\ndeny contains "x" if input.sesion\n', b__rego=TAINT, bad__json="{")

    assert run("eval", "a.rego", "--input", "bad.json").out.startswith("a.rego:2:22: undefined field")
    assert "bad.json:1:2: not JSON" in run("eval", "b.rego", "--input", "bad.json").err
    assert run("eval", "b.rego").code == 2
    assert run("eval", "b.rego", "--input", "bad.json", "--sample", "dec_x").code == 2


@pytest.mark.parametrize("kind", KINDS)
def test_schema_gives_what_opa_checks_annotated_policies_by(run: Run, kind: str) -> None:
    written_to = run("schema", kind, "schemas")

    assert written_to.out == f"schemas/{kind}.json\n"
    assert f"#   - input: schema.{kind}" in written_to.err
    printed = run("schema", kind).out
    assert json.loads(printed) == json.loads(Path(f"schemas/{kind}.json").read_text())


def test_lines_are_shown_as_ranges() -> None:
    assert ranges([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"


def test_the_pre_commit_hooks_run_commands_that_judge_what_they_are_given(run: Run) -> None:
    hooks = Path(__file__).parents[3] / ".pre-commit-hooks.yaml"
    check, test = re.findall(r"^  entry: interlock policy (.+)$", hooks.read_text(), re.MULTILINE)
    run("new", "task")

    assert run(*shlex.split(check), "task.rego", "task_test.rego").code == 0
    assert run(*shlex.split(test)).code == 0
    written(task__rego="package task\ndeny contains 1 if input.sesion\n")
    assert run(*shlex.split(check), "task.rego", "task_test.rego").code == 1
    assert run(*shlex.split(test)).code == 1
