"""Exit codes, and what goes to standard error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from interlock import profiles
from interlock.cli import app
from interlock.profiles import Profile, Profiles

NOUNS = [
    "task",
    "stack",
    "stack env",
    "stack file",
    "stack hook",
    "policy",
    "key",
    "pool",
    "pool token",
    "audit",
    "profile",
]


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("INTERLOCK_ADDRESS", "INTERLOCK_TOKEN", "INTERLOCK_API_KEY", "INTERLOCK_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INTERLOCK_PROFILES_FILE", str(tmp_path / "profiles.toml"))


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("interlock ")


@pytest.mark.parametrize("noun", NOUNS)
def test_every_noun_lists_its_verbs(noun: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run([*noun.split(), "--help"]) == 0
    assert "list" in capsys.readouterr().out


def test_an_error_is_one_and_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["whoami"]) == 1
    assert "interlock login" in capsys.readouterr().err


def test_wrong_usage_is_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["stack", "show"]) == 2
    assert "STACK" in capsys.readouterr().err


def test_task_run_that_cannot_ask_is_125(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["task", "run", "network", "--", "true"]) == 125
    assert "interlock dev" in capsys.readouterr().err


def test_wrong_usage_of_task_run_is_two() -> None:
    assert app.run(["task", "run"]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["stack", "delete", "network"],
        ["policy", "delete", "deny"],
        ["pool", "delete", "big"],
    ],
)
def test_nothing_is_deleted_without_a_terminal_to_ask_on_or_yes(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)

    assert app.run(arguments) == 2
    assert "--yes" in capsys.readouterr().err


def test_a_secret_on_the_command_line_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["stack", "env", "set", "network", "--secret", "PW=hunter22"]) == 2
    assert "hunter22" not in capsys.readouterr().err


def test_profiles_are_listed_chosen_and_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    file = profiles.default_file(os.environ)
    profiles.save(
        file, Profiles("a", {"a": Profile(address="x:1"), "b": Profile(address="y:1", api_key="k.s")})
    )

    assert app.run(["profile", "use", "b"]) == 0
    assert app.run(["profile", "delete", "a"]) == 0
    capsys.readouterr()
    assert app.run(["profile", "list"]) == 0
    assert capsys.readouterr().out == "* b\ty:1\n"


def test_importing_the_sdk_loads_neither_the_command_line_nor_the_servers() -> None:
    heavy = "{'typer', 'rich', 'sqlalchemy', 'docker', 'control_plane', 'runner', 'structlog', 'pydantic'}"
    code = f"import sys, interlock; print(sorted({heavy} & set(sys.modules)))"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert loaded.stdout == "[]\n"
