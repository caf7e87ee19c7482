"""`interlock audit`: the record of who did what."""

from typing import Annotated

import typer

from interlock.cli import complete, moments, show
from interlock.cli.session import connect
from interlock.types import AuditEvent, AuditHead

app = typer.Typer(no_args_is_help=True, help="Who did what, and whether the record is whole. Needs an admin.")


@app.command("list")
def list_(
    context: typer.Context,
    caller: Annotated[str, typer.Option(help="Only what this login did.")] = "",
    action: Annotated[
        str, typer.Option(help="Only this action (task.denied), or all that begin so (task.).")
    ] = "",
    resource: Annotated[str, typer.Option(help="Only what concerns this id.")] = "",
    stack: Annotated[
        str, typer.Option(help="Only what concerns this stack.", autocompletion=complete.stacks)
    ] = "",
    since: Annotated[
        str, typer.Option(metavar="WHEN", help="A time such as 2026-05-01T08:00Z, or 2h ago: 2h.")
    ] = "",
    until: Annotated[str, typer.Option(metavar="WHEN", help="Likewise.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Lists events, newest first."""
    columns = {
        "TIME": lambda event: show.when(event.event_time),
        "WHO": lambda event: event.caller.login or event.caller.id,
        "ACTION": lambda event: event.action,
        "RESOURCE": lambda event: event.resource_id,
        "STACK": lambda event: event.stack_id,
        "DETAILS": _details,
    }
    with connect(context) as client:
        events = client.audit.list(
            caller_login=caller,
            action=action,
            resource_id=resource,
            stack_id=stack,
            after_time=moments.parse(since),
            before_time=moments.parse(until),
            limit=limit,
        )
        show.table(events, columns, output)


@app.command()
def verify(
    context: typer.Context,
    known_head: Annotated[
        str,
        typer.Option(
            metavar="SEQUENCE:HASH",
            help="A head that an earlier verify printed: finds also that the log's end was cut off since.",
        ),
    ] = "",
    output: show.Output = show.Format.TEXT,
) -> None:
    """Checks every hash of the log: none missing, changed or out of order. Exit code 1 if one is.

    Note the head that it prints outside, and give it to the next verify.
    """
    head = _parse_head(known_head) if known_head else None
    with connect(context) as client:
        result = client.audit.verify(known_head=head)
    if output is show.Format.JSON:
        show.print_json(show.as_dict(result))
    elif result.intact:
        show.note(f"intact: {result.events_verified} events, {result.events_unsealed} not sealed yet; head:")
        print(f"{result.head.sequence}:{result.head.hash}")
    else:
        show.note(f"interlock: the audit log is not intact, at event {result.fault_sequence}: {result.fault}")
    if not result.intact:
        raise typer.Exit(1)


def _details(event: AuditEvent) -> str:
    return "" if event.details_json in ("", "{}") else event.details_json


def _parse_head(text: str) -> AuditHead:
    sequence, _, digest = text.partition(":")
    if not sequence.isdigit() or not digest:
        raise typer.BadParameter(
            f"{text!r}: write SEQUENCE:HASH, as an earlier `interlock audit verify` printed it"
        )
    return AuditHead(sequence=int(sequence), hash=digest)
