"""How `opa` is found, and what ends a command that goes too far. The commands are small scripts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from policies.workbench import toolchain
from policies.workbench.toolchain import OpaNotFoundError, Toolchain, ToolLimitError, find_opa


def folders() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("interlock-policy-*"))


def script(path: Path, body: str = "exit 0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_the_named_opa_comes_before_the_one_on_path(tmp_path: Path) -> None:
    named = script(tmp_path / "mine" / "opa-1.22")
    script(tmp_path / "bin" / "opa")

    assert find_opa({"INTERLOCK_OPA": str(named), "PATH": str(tmp_path / "bin")}) == named


def test_the_one_on_path_comes_before_the_cached_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = script(tmp_path / "bin" / "opa")
    monkeypatch.setattr(toolchain, "_CACHED", script(tmp_path / "cache" / "opa"))

    assert find_opa({"PATH": str(on_path.parent)}) == on_path


def test_the_cached_one_is_found_where_path_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = script(tmp_path / "cache" / "opa")
    monkeypatch.setattr(toolchain, "_CACHED", cached)

    assert find_opa({"PATH": str(tmp_path)}) == cached


def test_none_at_all_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_CACHED", tmp_path / "opa")

    with pytest.raises(OpaNotFoundError, match="INTERLOCK_OPA"):
        find_opa({"PATH": str(tmp_path)})


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_name_that_is_no_program_is_refused_rather_than_passed_over(tmp_path: Path, name: str) -> None:
    with pytest.raises(OpaNotFoundError, match="no executable file"):
        find_opa({"INTERLOCK_OPA": str(tmp_path / name)})


async def test_a_command_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_TIMEOUT_S", 0.1)
    tools = Toolchain(script(tmp_path / "opa", "exec sleep 60"))

    with pytest.raises(ToolLimitError, match="more than"):
        await tools.run("check", files={})


async def test_a_command_that_writes_without_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchain, "_OUTPUT_LIMIT_BYTES", 1 << 20)
    tools = Toolchain(script(tmp_path / "opa", "exec cat /dev/zero"))

    with pytest.raises(ToolLimitError, match="nested too deeply"):
        await tools.run("parse", files={})


async def test_a_command_sees_its_files_and_leaves_none(tmp_path: Path) -> None:
    tools = Toolchain(script(tmp_path / "opa", 'pwd; cat "$1"'))

    output = await tools.run("a.rego", files={"a.rego": "package a"})

    folder, text = output.text.split("\n", 1)
    assert text == "package a"
    assert Path(folder).name not in {path.name for path in folders()}


async def test_a_command_that_runs_out_of_memory_is_told_from_one_that_speaks_of_it(tmp_path: Path) -> None:
    speaks = Toolchain(script(tmp_path / "speaks", 'echo "deny: out of memory"; exit 2'))
    dies = Toolchain(script(tmp_path / "dies", 'echo "fatal error: runtime: out of memory"; exit 2'))

    assert (await speaks.run("test", files={})).exit_code == 2
    with pytest.raises(ToolLimitError, match="too much memory"):
        await dies.run("test", files={})


async def test_files_may_lie_in_folders(tmp_path: Path) -> None:
    tools = Toolchain(script(tmp_path / "opa", 'cat "$1"'))

    assert (await tools.run("a/b/c.rego", files={"a/b/c.rego": "package a"})).text == "package a"
