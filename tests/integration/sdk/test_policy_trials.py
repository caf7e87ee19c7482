"""`interlock policy simulate` and `backtest` against the real system, as an author and as CI type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.sdk.running import Dev

NO_PLANS = 'package p\nimport rego.v1\ndeny contains "no plans" if contains(request.command, "plan")\n'
NOTHING = 'package p\nimport rego.v1\ndeny contains "never" if request.command == "never"\n'
FRAGILE = 'package p\nimport rego.v1\ndeny contains "negative" if to_number(request.command) < 0\n'


def file(folder: Path, text: str) -> str:
    path = folder / "new.rego"
    path.write_text(text)
    return str(path)


@pytest.fixture(scope="module")
def tried(dev: Dev, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A stack with a policy of its own, on which a plan was denied and two commands were allowed."""
    stack = "tried"
    dev.run(
        "stack",
        "create",
        stack,
        "--tool",
        "custom",
        "--image",
        "nobody/needs-it:here",
        "--pull-policy",
        "never",
    )
    folder = tmp_path_factory.mktemp("tried")
    dev.run("policy", "create", f"plans-{stack}", file(folder, NO_PLANS), "--kind", "task")
    dev.run("policy", "attach", f"plans-{stack}", stack)
    for command in ("echo 1", "echo 2"):
        dev.run("task", "run", stack, "--skip-init", "--detach", "--", command)
    assert dev.run("task", "run", stack, "--", "plan", check=False).returncode == 125
    return stack


@pytest.mark.parametrize(
    ("text", "fail_on", "exit_code", "said"),
    [
        (NOTHING, [], 0, ""),
        (NOTHING, ["newly-denied"], 0, ""),
        (NOTHING, ["newly-denied", "newly-allowed"], 3, "failed on 1 newly allowed"),
        (NO_PLANS.replace("plan", "echo"), ["newly-denied"], 3, "failed on 2 newly denied"),
        (FRAGILE, ["errors"], 3, "failed on 3 errors"),
        (FRAGILE, ["any"], 3, "failed on 2 newly denied, 3 errors"),
        (NO_PLANS, ["newly-denied", "newly-allowed", "errors"], 0, ""),
        ("package p\n\ndenny := 1\n", ["any"], 1, "not acceptable"),
    ],
    ids=["unasked", "allows", "newly-allowed", "newly-denied", "errors", "any", "same", "refused"],
)
def test_the_exit_code_of_a_backtest_says_what_ci_looks_for(
    dev: Dev, tried: str, tmp_path: Path, text: str, fail_on: list[str], exit_code: int, said: str
) -> None:
    looked_for = [word for each in fail_on for word in ("--fail-on", each)]
    done = dev.run(
        "policy", "backtest", file(tmp_path, text), "--replaces", f"plans-{tried}", "--stack", tried,
        *looked_for, check=False,
    )  # fmt: skip
    assert done.returncode == exit_code, done.stderr
    assert said in done.stderr
    if exit_code != 1:
        assert "3 decisions evaluated again" in done.stderr


def test_a_backtest_shows_the_changes_by_stack_caller_and_message(
    dev: Dev, tried: str, tmp_path: Path
) -> None:
    new = file(tmp_path, NO_PLANS.replace("plan", "echo 2"))
    command = ("policy", "backtest", new, "--kind", "task", "--stack", tried)
    shown = dev.run(*command).stdout.splitlines()
    changed = shown[0].split("\t")
    assert changed[2:] == [tried, "admin", "newly denied", "allowed -> denied", "no echo 2s"]
    assert {"decisions\t3", "newly denied\t1", f"stack {tried}\t1 newly denied"} <= set(shown)
    assert {"caller admin\t1 newly denied", "message no echo 2s\t1 newly denied"} <= set(shown)
    told = json.loads(dev.run(*command, "--output", "json").stdout)
    assert told["report"]["newly_denied"] == "1"
    assert [each["decision_id"] for each in told["changes"]] == [changed[0]]
    decision = dev.run("decision", "show", changed[0]).stdout
    assert "outcome\tallowed" in decision


def test_a_simulation_shows_the_text_alone_and_with_the_policies_in_force(
    dev: Dev, tried: str, tmp_path: Path
) -> None:
    new = file(
        tmp_path, 'package p\nimport rego.v1\ndeny contains "x" if {\n\tprint("saw", stack.id)\n\tfalse\n}\n'
    )
    ask = ("policy", "simulate", new, "--stack", tried, "--command", "terraform plan")
    shown = dev.run(*ask).stdout.splitlines()
    assert {"alone\tallowed", "in force\tdenied", "together\tdenied"} <= set(shown)
    assert f'task policy plans-{tried}@1\t{{"deny": ["no plans"]}}' in shown
    assert f"printed, line 4, 1\tsaw {tried}" in shown
    replaced = dev.run(*ask, "--replaces", f"plans-{tried}").stdout
    assert "together\tallowed" in replaced
    listed = dev.run("decision", "list", "--stack", tried).stdout
    assert "terraform plan" not in listed
    assert len(listed.splitlines()) == 3


def test_a_text_that_does_not_say_its_kind_is_told_how_to(dev: Dev, tmp_path: Path) -> None:
    done = dev.run("policy", "backtest", file(tmp_path, "package p\n\ndeny := true\n"), check=False)
    assert done.returncode == 1
    assert "say it with --kind task|access|approval|login" in done.stderr
