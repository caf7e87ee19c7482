"""`interlock policy history|diff|rollback|release`: what a policy was, and bringing it back."""

import difflib
from collections.abc import Callable
from typing import Annotated

import typer

from interlock.cli import complete, show
from interlock.cli.session import connect
from interlock.types import PolicyRevision

PolicyId = Annotated[
    str, typer.Argument(metavar="POLICY", help="The policy's id.", autocompletion=complete.policies)
]
REVISION_HELP = "A revision: its number, or POLICY@NUMBER."


def history(
    context: typer.Context,
    policy_id: PolicyId,
    diff: Annotated[bool, typer.Option("--diff", help="With what each one changed.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Lists a policy's revisions, newest first: who changed what, and when. Of a deleted policy, too."""
    columns: dict[str, Callable[[PolicyRevision], str]] = {
        "REVISION": lambda revision: f"{revision.policy_id}@{revision.revision}",
        "TIME": lambda revision: show.when(revision.create_time),
        "BY": lambda revision: revision.author.login,
        "CHANGE": lambda revision: revision.change,
    }
    with connect(context) as client:
        listed = list(client.policies.history(policy_id, limit=limit))
    if not diff or output is show.Format.JSON:
        show.table(listed, columns, output)
        return
    for revision in listed:
        print("\t".join(show.visible(cell(revision)) for cell in columns.values()))
        _print_text(revision.diff)


def diff(
    context: typer.Context,
    policy_id: PolicyId,
    before: Annotated[
        str | None, typer.Argument(metavar="FROM", help=f"{REVISION_HELP} The one before the newest.")
    ] = None,
    after: Annotated[str | None, typer.Argument(metavar="TO", help=f"{REVISION_HELP} The newest.")] = None,
) -> None:
    """Shows what is different between two revisions: by default, what the newest one changed."""
    with connect(context) as client:
        newest = next(client.policies.history(policy_id, limit=1))
        later = client.policies.revision(policy_id, _number(policy_id, after)) if after else newest
        if before is None and later.revision == newest.revision:
            _print_text(newest.diff)
            return
        number = _number(policy_id, before) if before else later.revision - 1
        earlier = client.policies.revision(policy_id, number)
    names = (f"{policy_id}@{earlier.revision}", f"{policy_id}@{later.revision}")
    for line in difflib.unified_diff(_lines(earlier), _lines(later), *names, lineterm=""):
        _print_text(f"{line}\n")


def release(context: typer.Context, policy_id: PolicyId, output: show.Output = show.Format.TEXT) -> None:
    """Ends a policy's quarantine: it is asked again. With the same text it may come back to it."""
    with connect(context) as client:
        policy = client.policies.release(policy_id)
    show.done(policy, f"policy {policy_id} is asked again", output)


def rollback(
    context: typer.Context,
    policy_id: PolicyId,
    revision: Annotated[str, typer.Argument(metavar="REVISION", help=REVISION_HELP)],
    etag: Annotated[str, typer.Option(help="Refuse unless this is the policy's etag.")] = "",
    output: show.Output = show.Format.TEXT,
) -> None:
    """Makes a new revision that has all that an earlier one had: text, name, description and labels."""
    number = _number(policy_id, revision)
    with connect(context) as client:
        policy = client.policies.rollback(policy_id, number, etag=etag)
    show.done(
        policy,
        f"policy {policy_id} is as it was at revision {number}; this is revision {policy.revision}",
        output,
    )


def _number(policy_id: str, revision: str) -> int:
    named, _, number = revision.rpartition("@")
    if named not in ("", policy_id):
        raise typer.BadParameter(f"{revision} is a revision of another policy, not of {policy_id}")
    if not number.isdigit() or int(number) < 1:
        raise typer.BadParameter(f"{revision!r} is no revision: write a number from 1, or {policy_id}@NUMBER")
    return int(number)


def _lines(revision: PolicyRevision) -> list[str]:
    """As the server compares them."""
    labels = ", ".join(revision.labels)
    head = [f"name: {revision.name}", f"description: {revision.description}", f"labels: {labels}", ""]
    return [*head, *revision.body.splitlines()]


def _print_text(text: str) -> None:
    for line in text.splitlines():
        print(show.visible(line.replace("\t", "    ")))
