"""The init of every tool, given to a real shell with a stand-in for the tool's program that tells its arguments."""

import os
import subprocess
from pathlib import Path

import pytest

from runner.tools import Tool, init_of


def said(tool: Tool, folder: Path, environment: dict[str, str]) -> list[str]:
    """What the tool's programs were called with by its init, in a folder of this machine."""
    programs = folder / "bin"
    programs.mkdir()
    for program in ("terraform", "tofu", "terragrunt", "pulumi", "kubectl", "ansible-galaxy"):
        (programs / program).write_text('#!/bin/sh\necho "${0##*/} $*"\n')
        (programs / program).chmod(0o755)
    lines = []
    for command in init_of(tool).commands:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env={"PATH": f"{programs}:{os.environ['PATH']}"} | environment,
            check=True,
            capture_output=True,
            text=True,
        )
        lines += done.stdout.splitlines()
    return lines


@pytest.mark.parametrize(
    ("tool", "environment", "expected"),
    [
        (Tool.TERRAFORM, {}, ["terraform init -input=false -no-color"]),
        (Tool.OPENTOFU, {}, ["tofu init -input=false -no-color"]),
        (Tool.TERRAGRUNT, {}, ["terragrunt init -input=false -no-color"]),
        (Tool.PULUMI, {}, ["pulumi login --non-interactive --color never"]),
        (
            Tool.PULUMI,
            {"PULUMI_STACK": "org/prod"},
            [
                "pulumi login --non-interactive --color never",
                "pulumi stack select --create --non-interactive --color never -- org/prod",
            ],
        ),
        (Tool.KUBERNETES, {}, ["kubectl version --client"]),
        (Tool.ANSIBLE, {}, []),
    ],
)
def test_init_calls_the_tool_as_documented(
    tmp_path: Path, tool: Tool, environment: dict[str, str], expected: list[str]
) -> None:
    assert said(tool, tmp_path, environment) == expected


def test_ansible_installs_every_requirements_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "roles").mkdir()
    for name in ("requirements.yml", "roles/requirements.yml"):
        (tmp_path / name).touch()
    assert said(Tool.ANSIBLE, tmp_path, {}) == [
        "ansible-galaxy install -r requirements.yml",
        "ansible-galaxy install -r roles/requirements.yml",
    ]


def test_custom_init_is_the_stack_s_own() -> None:
    assert init_of(Tool.CUSTOM, ("make prepare",)).commands == ("make prepare",)
    assert init_of(Tool.TERRAFORM, ("ignored",)) == init_of(Tool.TERRAFORM)
