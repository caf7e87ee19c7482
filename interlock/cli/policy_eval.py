"""`interlock policy eval`: what a policy says of one input, and which line says it."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from interlock import enums
from interlock.cli import complete, policy_desk, show
from interlock.cli.policy_desk import Format
from interlock.cli.session import connect
from interlock.errors import Misconfigured
from interlock.types import Decision, PolicyKind
from policies.workbench import evaluation, explaining, library, shape
from policies.workbench.compiler import Compiler
from policies.workbench.evaluation import Evaluation
from policies.workbench.explaining import Source
from policies.workbench.findings import TextRefusedError
from policies.workbench.kinds import Kind
from policies.workbench.syntax import AUTHOR_FILE, Module
from policies.workbench.toolchain import ToolLimitError

_MOST_NOTES = 10


def eval_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The policy's Rego.")],
    input_file: Annotated[
        Path | None, typer.Option("--input", metavar="FILE", help="What it shall see, as JSON.")
    ] = None,
    run: Annotated[
        str,
        typer.Option(help="What policies saw of this run, newest first.", autocompletion=complete.runs),
    ] = "",
    sample: Annotated[
        str, typer.Option(metavar="DECISION", help="What policies saw in this decision: dec_….")
    ] = "",
    kind: policy_desk.KindOption = None,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Shows what a policy says of one input, which line says it, and which line stopped a rule that does not hold.

    With --input, nothing but OPA is needed; --run and --sample ask the control plane for an input on record.
    """
    if sum(map(bool, (input_file, run, sample))) != 1:
        raise typer.BadParameter("give one of --input, --run and --sample")
    text = policy_desk.Text(str(file), policy_desk.read(file))
    try:
        module, known = asyncio.run(_accepted(text, kind))
    except TextRefusedError as refused:
        policy_desk.print_findings(refused.findings, Format(output.value))
        raise typer.Exit(policy_desk.EXIT_FOUND) from refused
    if input_file:
        document = _read_input(input_file)
        unknown = dict.fromkeys(shape.unknown_fields(json.loads(library.schema(known)), document))
        for sentence in list(unknown)[:_MOST_NOTES]:
            show.note(f"{input_file}: {sentence}")
    else:
        document = _recorded(context, known, run, sample)
    try:
        found = asyncio.run(evaluation.evaluate(policy_desk.toolchain(), module, known, document))
    except ToolLimitError as error:
        raise Misconfigured(f"{file} cannot be evaluated, which refuses: {error}") from error
    _print(Source.of(module, str(file)), known, found, output)
    if found.failure:
        raise typer.Exit(policy_desk.EXIT_FOUND)


async def _accepted(text: policy_desk.Text, kind: Any) -> tuple[Module, Kind]:
    compiler = Compiler(policy_desk.toolchain())
    module = await compiler.parse(text.body, text.name)
    known = policy_desk.kind_of(module, text.name, kind)
    await compiler.compile_module(module, known, text.name)
    return module, known


def _read_input(file: Path) -> Any:
    try:
        return json.loads(policy_desk.read(file))
    except json.JSONDecodeError as error:
        raise Misconfigured(f"{file}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from error


def _recorded(context: typer.Context, kind: Kind, run: str, sample: str) -> Any:
    """A decision's input. Access policies are asked together with task policies, and see no command."""
    recorded_as = Kind.TASK if kind is Kind.ACCESS else kind
    with connect(context) as client:
        if sample:
            decision = client.decisions.get(sample)
        else:
            found = list(client.decisions.list(run_id=run, kind=recorded_as.value, whole=True, limit=1))
            if not found:
                raise Misconfigured(f"no policy of kind {kind.value} was asked about {run}")
            decision = found[0]
    _require_kind(decision, recorded_as, kind)
    document = json.loads(decision.input_json)
    if kind is Kind.ACCESS:
        document["request"].pop("command", None)
    return document


def _require_kind(decision: Decision, recorded_as: Kind, kind: Kind) -> None:
    name = enums.name(PolicyKind, decision.kind)
    if name not in {recorded_as.value, kind.value}:
        raise Misconfigured(f"{decision.id} is about kind {name}; the policy is of kind {kind.value}")


def _print(source: Source, kind: Kind, found: Evaluation, output: show.Format) -> None:
    said = f"could not be evaluated, which refuses: {found.failure}" if found.failure else ""
    said = said or explaining.outcome(kind, found.values)
    if output is show.Format.JSON:
        show.print_json({"outcome": said, **asdict(found)})
        return
    place = f"{source.name}:{found.line}" if found.line else source.name
    print(show.visible(f"{place} {said}"))
    for rule, value in found.values.items():
        print(f"{rule}\t{show.visible(json.dumps(value, ensure_ascii=False))}")
    for each in found.prints:
        print(show.visible(f"{source.name}:{each.line}: prints {each.text}"))
    if found.is_unexplained:
        show.note("it looks at too much for its way to be shown line by line")
    elif found.clauses:
        print()
    for line in explaining.lines(found.clauses, {AUTHOR_FILE: source}):
        print(show.visible(line))
