"""The check of the docs finds what would mislead a reader."""

from pathlib import Path

import pytest

from scripts import docs


@pytest.mark.parametrize(
    "line",
    [
        "interlock task run network -- terraform apply --auto-approve",
        "interlock stack list --output json | jq .",
        "INTERLOCK_ADDRESS=127.0.0.1:7000 interlock whoami",
        "make check",
        "terraform plan --out",
    ],
)
def test_command_that_exists_passes(line: str) -> None:
    assert list(docs.unknown_in_shell(line)) == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("interlock task rum network -- true", "there is no command rum"),
        ("interlock task run --skip-everything network -- true", "there is no option --skip-everything"),
        ("make tset", "make has no target tset"),
    ],
)
def test_command_that_does_not_exist_is_found(line: str, complaint: str) -> None:
    assert [complaint in found for found in docs.unknown_in_shell(line)] == [True]


def test_output_in_a_console_is_not_taken_for_a_command() -> None:
    shown = "$ interlock whoami\ninterlock says hello\n$ interlock whoareyou\n"
    assert len(list(docs.unknown_in_console(shown))) == 1


def test_rego_of_both_versions_passes_and_other_text_does_not() -> None:
    assert list(docs.refused_rego('package a\ndeny contains "no" if input.command == "x"\n')) == []
    assert list(docs.refused_rego('package a\ndeny["no"] { input.command == "x" }\n')) == []
    assert list(docs.refused_rego("package a\ndeny if if\n")) != []


def test_python_that_uses_what_the_sdk_has_not_is_found() -> None:
    good = docs.Snippet("good", "python", "import interlock\nprint(interlock.connect)\n")
    bad = docs.Snippet("bad", "python", "import interlock\nprint(interlock.connekt)\n")
    complaints = docs.mistyped([good, bad])
    assert [complaint.partition(":")[0] for complaint in complaints] == ["bad"]


def test_link_to_a_missing_file_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[here](page.md) [gone](gone.md#part) [out](https://example.com)\n")
    assert [complaint for complaint in docs.dead_links(page) if "gone.md" in complaint]
    assert len(list(docs.dead_links(page))) == 1
