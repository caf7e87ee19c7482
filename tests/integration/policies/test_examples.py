"""The policies that ship: their tests pass, uploads of them are accepted, and they decide as they say."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from policies.workbench.compiler import Compiler
from policies.workbench.kinds import Kind
from scripts import cookbook
from tests.integration.policies.house import fits

POLICIES = Path(__file__).parents[3] / "policies"
EXAMPLES = sorted(path for path in POLICIES.glob("examples/*/*.rego") if not path.stem.endswith("_test"))


def opa(opa_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [opa_path, *arguments], cwd=POLICIES, capture_output=True, text=True, check=False, timeout=60
    )


def test_there_is_one_for_every_need_that_is_promised() -> None:
    assert {path.stem for path in EXAMPLES} >= {
        "break_glass", "business_hours", "deny_destroy", "destroy_needs_two", "freeze_windows", "limited_taint",
        "machines_only_look_at_production", "maintenance", "no_machine_users", "no_secrets_on_the_command_line",
        "read_only_commands", "read_only_while_locked", "team_commands", "team_label", "teams_and_networks",
        "ticket_number", "two_teams",
    }  # fmt: skip


def test_all_tests_of_the_library_and_the_examples_pass(opa_path: Path) -> None:
    result = opa(opa_path, "test", "--ignore", "*.json", "lib", "examples")

    assert result.returncode == 0, result.stdout


def test_every_file_is_formatted(opa_path: Path) -> None:
    result = opa(opa_path, "fmt", "--list", "lib", "examples")

    assert result.stdout == ""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_a_whole_input_of_its_kind(opa_path: Path, tmp_path: Path, path: Path) -> None:
    sample = json.loads(path.with_suffix(".json").read_text())

    assert fits(opa_path, Kind(path.parent.name), sample, tmp_path)


def test_the_cookbook_is_made_of_the_examples_as_they_are(
    opa_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cookbook.main(["--check"]) == 0, capsys.readouterr().out


def test_every_sample_shows_what_its_policy_is_for(opa_path: Path) -> None:
    silent = [path.stem for path in EXAMPLES if not any(cookbook.recipe(opa_path, path).verdict.values())]

    assert silent == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_tested_and_described(path: Path) -> None:
    text = path.read_text()

    assert path.with_name(f"{path.stem}_test.rego").exists()
    assert text.startswith("# METADATA\n# title: ")
    assert "\n# description:" in text


@pytest.mark.parametrize(("kind", "text"), [(path.parent.name, path.read_text()) for path in EXAMPLES])
async def test_an_example_is_accepted_as_an_upload(compiler: Compiler, kind: str, text: str) -> None:
    await compiler.compile(Kind(kind), text, "example.rego")
