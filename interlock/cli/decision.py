"""`interlock decision`: what policies decided, and on what."""

import json
from typing import Annotated

import typer

from interlock import enums
from interlock.cli import complete, moments, show
from interlock.cli.choices import PolicyKindName
from interlock.cli.session import connect
from interlock.types import Decision, PolicyKind, PolicyVerdict

app = typer.Typer(no_args_is_help=True, help="What policies decided, and on what.")


@app.command("list")
def list_(
    context: typer.Context,
    stack: Annotated[str, typer.Option(help="Only about this stack.", autocompletion=complete.stacks)] = "",
    run: Annotated[str, typer.Option(help="Only about this run.", autocompletion=complete.runs)] = "",
    kind: Annotated[PolicyKindName | None, typer.Option(help="Only this kind.")] = None,
    caller: Annotated[str, typer.Option(help="Only where this login's call asked.")] = "",
    denied: Annotated[bool, typer.Option("--denied", help="Only those that did not allow.")] = False,
    samples: Annotated[
        bool, typer.Option("--samples", help="Only those that a policy's rule `sample` wants kept.")
    ] = False,
    since: Annotated[
        str, typer.Option(metavar="WHEN", help="A time such as 2026-05-01T08:00Z, or 2h ago: 2h.")
    ] = "",
    until: Annotated[str, typer.Option(metavar="WHEN", help="Likewise.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Lists decisions, newest first. With --output json each is whole, to be evaluated again."""
    columns = {
        "ID": lambda decision: decision.id,
        "TIME": lambda decision: show.when(decision.create_time),
        "KIND": lambda decision: enums.name(PolicyKind, decision.kind),
        "STACK": lambda decision: decision.stack_id,
        "CALLER": lambda decision: decision.caller_login,
        "OUTCOME": lambda decision: decision.outcome,
        "MESSAGES": lambda decision: "; ".join(decision.messages),
    }
    with connect(context) as client:
        listed = client.decisions.list(
            stack_id=stack,
            run_id=run,
            kind=kind.value if kind else PolicyKind.POLICY_KIND_UNSPECIFIED,
            caller_login=caller,
            allowed=False if denied else None,
            samples_only=samples,
            created_after=moments.parse(since),
            created_before=moments.parse(until),
            whole=output is show.Format.JSON,
            limit=limit,
        )
        show.table(listed, columns, output)


@app.command("show")
def show_(
    context: typer.Context,
    decision_id: Annotated[str, typer.Argument(metavar="DECISION", help="The decision's id, dec_….")],
    input_only: Annotated[
        bool, typer.Option("--input", help="Only what the policies saw, to be piped into a file.")
    ] = False,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Shows a decision with every policy that was asked, at the revision that judged, and with what they saw."""
    with connect(context) as client:
        decision = client.decisions.get(decision_id)
    if input_only:
        show.print_json(json.loads(decision.input_json))
        return
    show_decision(decision, output)


def show_decision(decision: Decision, output: show.Format) -> None:
    show.record(decision, _fields(decision), output)
    if output is show.Format.TEXT:
        print("\ninput")
        show.print_json(json.loads(decision.input_json))


def _fields(decision: Decision) -> dict[str, str]:
    return {
        "id": decision.id,
        "kind": enums.name(PolicyKind, decision.kind),
        "time": show.when(decision.create_time),
        "stack": decision.stack_id,
        "run": decision.run_id,
        "caller": decision.caller_login,
        "outcome": decision.outcome,
        "messages": "; ".join(decision.messages),
        "took": f"{decision.took_us / 1000:.1f} ms",
        "sample": "kept, as a policy asked" if decision.sample else "",
        **{named(verdict): said(verdict) for verdict in decision.verdicts},
        **{
            f"printed by {each.policy_id}, line {each.line}, {place}": each.text
            for place, each in enumerate(decision.prints, 1)
        },
    }


def named(verdict: PolicyVerdict) -> str:
    """As in `task policy no-taint@2`."""
    kind = enums.name(PolicyKind, verdict.kind)
    return f"{'shadow ' if verdict.shadow else ''}{kind} policy {verdict.policy_id}@{verdict.revision}"


def said(verdict: PolicyVerdict) -> str:
    """What its rules came to."""
    if verdict.failure:
        return f"could not be evaluated: {verdict.failure}"
    would_be = f", would be {verdict.would_be}" if verdict.would_be else ""
    return f"{verdict.results_json or 'not evaluated'}{would_be}"
