"""`interlock policy simulate|backtest`: what a text that is not stored would decide, now and over all that ever was."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from interlock import enums
from interlock.cli import complete, decision, moments, policy_text, show
from interlock.cli.choices import PolicyKindName
from interlock.cli.session import connect
from interlock.types import (
    BacktestChange,
    BacktestCount,
    BacktestEffect,
    BacktestProgress,
    BacktestReport,
    PolicyKind,
    Simulation,
)

# Neither an error of the command (1, 2) nor a refusal (125): it worked, and found what it was told to look for.
EXIT_FOUND = 3

File = Annotated[str, typer.Argument(metavar="FILE", help="The Rego; - reads standard input.")]
KindOption = Annotated[
    PolicyKindName | None,
    typer.Option("--kind", help="Its kind, where neither the text nor --replaces says it."),
]
Replaces = Annotated[
    str,
    typer.Option(
        "--replaces",
        metavar="POLICY",
        help="The policy whose place it takes; otherwise it is added.",
        autocompletion=complete.policies,
    ),
]


class FailOn(StrEnum):
    NEWLY_DENIED = "newly-denied"
    NEWLY_ALLOWED = "newly-allowed"
    ERRORS = "errors"
    SLOWER = "slower"
    ANY = "any"


def simulate(
    context: typer.Context,
    file: File,
    kind: KindOption = None,
    replaces: Replaces = "",
    stack: Annotated[str, typer.Option(help="The stack, as it is now.", autocompletion=complete.stacks)] = "",
    command: Annotated[str, typer.Option(help="The task's command.")] = "",
    run: Annotated[
        str,
        typer.Option(help="Kind approval: a run that waits for it.", autocompletion=complete.runs),
    ] = "",
    as_login: Annotated[
        str, typer.Option("--as", metavar="LOGIN", help="As if this login called. Needs an admin.")
    ] = "",
    remote_ip: Annotated[
        str, typer.Option("--ip", help="As if the call came from this address. Needs an admin.")
    ] = "",
    output: show.Output = show.Format.TEXT,
) -> None:
    """Says what a text would decide now, alone and together with the policies in force. Nothing is stored.

    `interlock policy simulate no_apply.rego --stack web --command "terraform apply" --as ci`
    """
    with connect(context) as client:
        simulation = client.policies.simulate(
            policy_text.read(file),
            kind=kind.value if kind else PolicyKind.POLICY_KIND_UNSPECIFIED,
            replaces=replaces,
            stack_id=stack,
            command=command,
            run_id=run,
            as_login=as_login,
            remote_ip=remote_ip,
            file_name=policy_text.name(file),
        )
    show.record(simulation, _simulated(simulation), output)


def backtest(
    context: typer.Context,
    file: File,
    kind: KindOption = None,
    replaces: Replaces = "",
    stack: Annotated[
        str, typer.Option(help="Only decisions about this stack.", autocompletion=complete.stacks)
    ] = "",
    label: Annotated[str, typer.Option(help="Only about stacks that had this label then.")] = "",
    since: Annotated[
        str, typer.Option(metavar="WHEN", help="A time such as 2026-05-01T08:00Z, or 2h ago: 2h.")
    ] = "",
    changes: Annotated[
        int, typer.Option(min=1, max=100_000, help="Show so many changes one by one, the oldest.")
    ] = 20,
    fail_on: Annotated[
        list[FailOn] | None,
        typer.Option(help=f"End with exit code {EXIT_FOUND} where there is any of these. May be repeated."),
    ] = None,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Evaluates a text on every recorded decision of its kind, and says which would be different. Nothing is stored.

    `interlock policy backtest no_taint.rego --replaces no-taint --since 720h --fail-on newly-denied`
    """
    text, name = policy_text.read(file), policy_text.name(file)
    found: list[BacktestChange] = []
    report = BacktestReport()
    with connect(context) as client:
        for event in client.policies.backtest(
            text,
            kind=kind.value if kind else PolicyKind.POLICY_KIND_UNSPECIFIED,
            replaces=replaces,
            stack_id=stack,
            label=label,
            since=moments.parse(since),
            max_changes=changes,
            file_name=name,
        ):
            match event:
                case BacktestProgress():
                    _show_progress(event)
                case BacktestChange():
                    found.append(event)
                case BacktestReport():
                    report = event
    _end_progress(report)
    if output is show.Format.JSON:
        show.print_json({"report": show.as_dict(report), "changes": [show.as_dict(each) for each in found]})
    else:
        _print(found, report)
    if what := _looked_for(report, fail_on or ()):
        show.note(f"failed on {what}")
        raise typer.Exit(EXIT_FOUND)


def _simulated(simulation: Simulation) -> dict[str, str]:
    return {
        "kind": enums.name(PolicyKind, simulation.kind),
        "alone": simulation.alone,
        "in force": simulation.now,
        "together": simulation.together,
        "messages": "; ".join(simulation.messages),
        "results": simulation.results_json,
        **{decision.named(verdict): decision.said(verdict) for verdict in simulation.decision.verdicts},
        **{
            f"printed, line {each.line}, {place}": each.text
            for place, each in enumerate(simulation.prints, 1)
        },
        "took": f"{simulation.evaluation_us / 1000:.1f} ms",
    }


def _show_progress(progress: BacktestProgress) -> None:
    if not progress.decisions:
        return
    line = (
        f"{progress.read} of {progress.total} decisions read, {progress.decisions} evaluated again, "
        f"{progress.decisions_per_s:.0f} a second: "
        f"{progress.newly_denied} newly denied, {progress.newly_allowed} newly allowed, {progress.errors} errors"
    )
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
    else:
        show.note(line)


def _end_progress(report: BacktestReport) -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    show.note(f"{report.decisions} decisions evaluated again, {report.decisions_per_s:.0f} a second")


def _print(found: list[BacktestChange], report: BacktestReport) -> None:
    columns = {
        "DECISION": lambda change: change.decision_id,
        "TIME": lambda change: show.when(change.create_time),
        "STACK": lambda change: change.stack_id,
        "CALLER": lambda change: change.caller_login,
        "EFFECT": lambda change: ", ".join(map(_effect, change.effects)),
        "CHANGE": lambda change: f"{change.was} -> {change.would_be}",
        "MESSAGES": lambda change: "; ".join(change.messages),
    }
    if found:
        show.table(found, columns, show.Format.TEXT)
        print()
    show.record(report, _fields(report), show.Format.TEXT)


def _effect(effect: "BacktestEffect.ValueType") -> str:
    return enums.name(BacktestEffect, effect).replace("_", " ")


def _fields(report: BacktestReport) -> dict[str, str]:
    return {
        "kind": enums.name(PolicyKind, report.kind),
        "replaces": report.replaces_policy_id,
        "decisions": str(report.decisions),
        "newly denied": str(report.newly_denied),
        "newly allowed": str(report.newly_allowed),
        "errors": str(report.errors),
        "slower": str(report.slower),
        "failed then": str(report.incomparable) if report.incomparable else "",
        "passed over": str(report.passed_over) if report.passed_over else "",
        "mean evaluation": f"{report.mean_evaluation_us} µs",
        **{f"stack {each.subject}": _counts(each) for each in report.stacks},
        **{f"caller {each.subject}": _counts(each) for each in report.callers},
        **{f"message {each.subject}": _counts(each) for each in report.messages},
    }


def _counts(count: BacktestCount) -> str:
    """As in `3 newly denied, 1 errors`."""
    counts = {
        "newly denied": count.newly_denied,
        "newly allowed": count.newly_allowed,
        "errors": count.errors,
        "slower": count.slower,
    }
    return ", ".join(f"{number} {what}" for what, number in counts.items() if number)


def _looked_for(report: BacktestReport, fail_on: "tuple[FailOn, ...] | list[FailOn]") -> str:
    """What of it is there, in words."""
    counts = {
        FailOn.NEWLY_DENIED: report.newly_denied,
        FailOn.NEWLY_ALLOWED: report.newly_allowed,
        FailOn.ERRORS: report.errors,
        FailOn.SLOWER: report.slower,
    }
    return ", ".join(
        f"{number} {what.value.replace('-', ' ')}"
        for what, number in counts.items()
        if number and (what in fail_on or FailOn.ANY in fail_on)
    )
