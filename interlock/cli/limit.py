"""`interlock limit`: how many runs may be active or wait at once, and for how long."""

from typing import Annotated

import typer

from interlock import enums
from interlock.cli import confirm, durations, show
from interlock.cli.choices import LimitKindName
from interlock.cli.session import connect
from interlock.types import Limit, LimitKind

app = typer.Typer(
    no_args_is_help=True, help="Limit how many runs are active or wait at once, and for how long they wait."
)

Kind = Annotated[LimitKindName, typer.Argument(metavar="KIND", help="pool, label, caller or stack.")]
Subject = Annotated[
    str,
    typer.Argument(
        metavar="SUBJECT",
        help="The pool's or stack's id, the label of stacks, or the caller's login; '*': each without it.",
    ),
]


@app.command("set")
def set_(
    context: typer.Context,
    kind: Kind,
    subject: Subject,
    max_active: Annotated[
        int | None, typer.Option(min=0, help="Pools, labels, callers: so many runs have a runner at once.")
    ] = None,
    max_queued: Annotated[
        int | None,
        typer.Option(min=0, help="Callers, stacks: so many runs wait at once; one more is refused."),
    ] = None,
    queue_timeout: Annotated[
        str, typer.Option(metavar="DURATION", help="Stacks: a run that waited so long is discarded.")
    ] = "",
    output: show.Output = show.Format.TEXT,
) -> None:
    """Sets a limit, in place of all that was set for this subject before. Runs that are there already stay.

    `interlock limit set caller ci-bot --max-active 4 --max-queued 1000`

    `interlock limit set label production --max-active 1`

    `interlock limit set stack '*' --max-queued 100 --queue-timeout 12h`
    """
    with connect(context) as client:
        limit = client.limits.set(
            kind.value,
            subject,
            max_active=max_active,
            max_queued=max_queued,
            queue_timeout=durations.parse(queue_timeout) if queue_timeout else None,
        )
    show.done(limit, f"{kind.value} {subject}: {_says(limit)}", output)


@app.command("list")
def list_(context: typer.Context, output: show.Output = show.Format.TEXT) -> None:
    """Lists the limits, with the runs that are active now."""
    columns = {
        "KIND": lambda limit: enums.name(LimitKind, limit.kind),
        "SUBJECT": lambda limit: limit.subject,
        "ACTIVE": lambda limit: "" if limit.subject == "*" else str(limit.active_runs),
        "MAX ACTIVE": lambda limit: str(limit.max_active) if limit.HasField("max_active") else "",
        "MAX QUEUED": lambda limit: str(limit.max_queued) if limit.HasField("max_queued") else "",
        "QUEUE TIME-OUT": _timeout,
    }
    with connect(context) as client:
        show.table(client.limits.list(), columns, output)


@app.command()
def unset(context: typer.Context, kind: Kind, subject: Subject, yes: confirm.Yes = False) -> None:
    """Removes a limit. What it held back starts."""
    confirm.require(f"remove the limit of {kind.value} {subject}", yes=yes)
    with connect(context) as client:
        client.limits.delete(kind.value, subject)
    show.note(f"{kind.value} {subject} is not limited any more")


def _says(limit: Limit) -> str:
    parts = []
    if limit.HasField("max_active"):
        parts.append(f"at most {limit.max_active} active")
    if limit.HasField("max_queued"):
        parts.append(f"at most {limit.max_queued} wait")
    if limit.HasField("queue_timeout"):
        parts.append(f"none waits longer than {_timeout(limit)}")
    return ", ".join(parts)


def _timeout(limit: Limit) -> str:
    return durations.text(limit.queue_timeout.ToTimedelta()) if limit.HasField("queue_timeout") else ""
