"""`interlock policy check`: all that is wrong with policies, before they are stored."""

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from interlock.cli import policy_desk, show
from interlock.cli.choices import PolicyKindName
from interlock.cli.policy_desk import Format, Text
from interlock.errors import Misconfigured
from policies.workbench import guessing, regal
from policies.workbench.compiler import Compiler, over_limit
from policies.workbench.findings import Finding, TextRefusedError, in_order
from policies.workbench.toolchain import ToolLimitError


class FailOn(StrEnum):
    """What ends the command with exit code 1."""

    ERROR = "error"
    WARNING = "warning"


def check(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Rego, or folders: then every *.rego below.")
    ],
    kind: policy_desk.KindOption = None,
    lint: Annotated[
        bool,
        typer.Option(
            help="Show what Regal says, too, where there is one: INTERLOCK_REGAL, or regal on PATH."
        ),
    ] = True,
    fail_on: Annotated[
        FailOn, typer.Option(help="The least that makes the exit code 1. Regal's findings are warnings.")
    ] = FailOn.ERROR,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="sarif is what code hosts show beside changed lines.")
    ] = Format.TEXT,
) -> None:
    """Checks policies as an upload does, on this machine alone. Everything is shown as file:line:column: message.

    The exit code is 0 where all may be stored, else 1. Tests (*_test.rego) only have to parse.
    """
    texts = policy_desk.texts(files)
    if not texts:
        raise Misconfigured("there is no *.rego in what was named")
    found = asyncio.run(_findings(texts, kind, with_lint=lint))
    policy_desk.print_findings(found, output)
    errors = policy_desk.errors_in(found)
    warnings = len(found) - errors
    show.note(
        f"{policy_desk.counted(len(texts), 'file')} checked: {policy_desk.counted(errors, 'error')}, "
        f"{policy_desk.counted(warnings, 'warning')}"
    )
    if errors or (warnings and fail_on is FailOn.WARNING):
        raise typer.Exit(policy_desk.EXIT_FOUND)


async def _findings(texts: Sequence[Text], kind: PolicyKindName | None, *, with_lint: bool) -> list[Finding]:
    compiler = Compiler(policy_desk.toolchain())
    try:
        linter = regal.find_regal() if with_lint else None
        judged = await asyncio.gather(*(_of_text(compiler, text, kind) for text in texts))
        parsed = [text.name for text, (_, does_parse) in zip(texts, judged, strict=True) if does_parse]
        advice = await regal.lint(linter, parsed) if linter and parsed else []
    except (regal.RegalError, ToolLimitError) as error:
        raise Misconfigured(f"{error}; leave Regal out with --no-lint") from error
    return in_order([*(finding for found, _ in judged for finding in found), *advice])


async def _of_text(compiler: Compiler, text: Text, kind: PolicyKindName | None) -> tuple[list[Finding], bool]:
    """What is wrong, and whether it parses, without which Regal says nothing about any file."""
    does_parse = False
    try:
        module = await compiler.parse(text.body, text.name)
        does_parse = True
        if not guessing.is_test(module, text.name):
            await compiler.compile_module(module, policy_desk.kind_of(module, text.name, kind), text.name)
    except TextRefusedError as refused:
        return list(refused.findings), does_parse
    except ToolLimitError as error:
        return [over_limit(error, text.name)], does_parse
    return [], does_parse
