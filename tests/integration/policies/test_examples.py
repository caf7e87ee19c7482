"""The policies that ship: their tests pass, uploads of them are accepted, and they decide as they say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from policies.workbench.compiler import Compiler
from policies.workbench.kinds import Kind

POLICIES = Path(__file__).parents[3] / "policies"
EXAMPLES = sorted(path for path in POLICIES.glob("examples/*/*.rego") if not path.stem.endswith("_test"))


def opa(opa_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [opa_path, *arguments], cwd=POLICIES, capture_output=True, text=True, check=False, timeout=60
    )


def test_there_is_one_for_every_need_that_is_promised() -> None:
    assert {path.stem for path in EXAMPLES} >= {
        "business_hours", "deny_destroy", "no_machine_users", "no_secrets_on_the_command_line",
        "read_only_commands", "team_label", "two_teams",
    }  # fmt: skip


def test_all_tests_of_the_library_and_the_examples_pass(opa_path: Path) -> None:
    result = opa(opa_path, "test", "lib", "examples")

    assert result.returncode == 0, result.stdout


def test_every_file_is_formatted(opa_path: Path) -> None:
    result = opa(opa_path, "fmt", "--list", "lib", "examples")

    assert result.stdout == ""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_tested_and_described(path: Path) -> None:
    text = path.read_text()

    assert path.with_name(f"{path.stem}_test.rego").exists()
    assert text.startswith("# METADATA\n# title: ")
    assert "\n# description:" in text


@pytest.mark.parametrize(("kind", "text"), [(path.parent.name, path.read_text()) for path in EXAMPLES])
async def test_an_example_is_accepted_as_an_upload(compiler: Compiler, kind: str, text: str) -> None:
    await compiler.compile(Kind(kind), text, "example.rego")
