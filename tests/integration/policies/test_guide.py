"""The guide's first steps are typed as they stand there: what it shows is what comes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.cli import app

GUIDE = Path(__file__).parents[3] / "docs" / "policies.md"
BLOCK = re.compile(r"^```(rego|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What asks the control plane is tried in tests/integration/sdk.
OFFLINE = ("new", "check", "test", "eval", "schema")


def steps() -> Iterator[tuple[str, str]]:
    """Texts of Rego, and commands with what they print."""
    text = GUIDE.read_text()
    for language, block in BLOCK.findall(text[text.index("## Ten minutes") : text.index("## At your desk")]):
        if language == "rego":
            yield "rego", block
        else:
            yield from (("console", typed) for typed in re.split(r"^\$ ", block, flags=re.MULTILINE) if typed)


def test_the_first_ten_minutes_go_as_the_guide_says(
    opa_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INTERLOCK_OPA", str(opa_path))
    monkeypatch.delenv("INTERLOCK_REGAL", raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    names = iter(["no_taint.rego", "no_taint_test.rego"])
    typed = []
    for what, text in steps():
        if what == "rego":
            Path(next(names)).write_text(text)
            continue
        command, _, shown = text.partition("\n")
        words = shlex.split(command)
        if words[:2] == ["interlock", "policy"] and words[2] in OFFLINE:
            assert app.run(words[1:]) == 0, command
            said = capsys.readouterr()
            assert said.out + said.err == shown, command
            typed.append(words[2])

    assert typed == ["new", "check", "test", "eval"]
