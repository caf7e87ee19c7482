"""What the author's commands share: their OPA, their files, their findings. No control plane, no credentials."""

import importlib.metadata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from interlock.cli import show
from interlock.cli.choices import PolicyKindName
from interlock.errors import Misconfigured
from policies.workbench import guessing, reports
from policies.workbench.findings import Finding, Severity, TextRefusedError
from policies.workbench.kinds import Kind
from policies.workbench.syntax import Module
from policies.workbench.toolchain import OpaNotFoundError, Toolchain, find_opa

EXIT_FOUND = 1


class Format(StrEnum):
    """How findings are printed."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"


KindOption = Annotated[
    PolicyKindName | None,
    typer.Option(help="The kind, where the rules, an annotation or the folder's name do not say it."),
]


@dataclass(frozen=True)
class Text:
    """One file as its author names it."""

    name: str
    body: str


def toolchain() -> Toolchain:
    try:
        return Toolchain(find_opa())
    except OpaNotFoundError as error:
        raise Misconfigured(str(error)) from error


def texts(paths: Iterable[Path]) -> list[Text]:
    """These files, and those called *.rego in these folders and below; hidden folders are left out."""
    files: dict[Path, None] = {}
    for path in paths:
        files.update(dict.fromkeys(_below(path) if path.is_dir() else [path]))
    return [Text(str(file), read(file)) for file in files]


def read(path: Path) -> str:
    """The text as it is, with whatever ends its lines."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{path}: not UTF-8 at byte {error.start}") from error


def kind_of(module: Module, name: str, chosen: PolicyKindName | None) -> Kind:
    """
    Raises:
        TextRefusedError: nothing says of which kind the policy is.
    """
    known = Kind(chosen.value) if chosen else guessing.kind_of(module, name)
    if known is None:
        raise TextRefusedError([guessing.unknown(module, name)])
    return known


def print_findings(found: Sequence[Finding], output: Format) -> None:
    match output:
        case Format.TEXT:
            for line in reports.as_text(found).splitlines():
                print(show.visible(line))
        case Format.JSON:
            print(reports.as_json(found))
        case Format.SARIF:
            print(reports.as_sarif(found, importlib.metadata.version("interlock")))


def errors_in(found: Iterable[Finding]) -> int:
    return sum(finding.severity is Severity.ERROR for finding in found)


def counted(number: int, noun: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _below(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*.rego")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
