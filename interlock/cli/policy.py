"""`interlock policy`: Rego that decides who may do what."""

import sys
from typing import Annotated

import typer

from interlock import enums
from interlock.cli import (
    complete,
    confirm,
    failures,
    policy_attachment,
    policy_check,
    policy_eval,
    policy_new,
    policy_record,
    policy_tests,
    policy_text,
    policy_trial,
    show,
)
from interlock.cli.choices import PolicyKindName
from interlock.cli.session import connect
from interlock.types import Policy, PolicyKind, RegoVersion

app = typer.Typer(no_args_is_help=True, help="Store policies and attach them to stacks.")

PolicyId = Annotated[
    str, typer.Argument(metavar="POLICY", help="The policy's id.", autocompletion=complete.policies)
]
TestFiles = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE", help="The text's tests: where one fails, nothing is changed. May be repeated."
    ),
]
LABEL_HELP = (
    "autoattach:LABEL attaches it to every stack with LABEL, autoattach:* to all; autoattach-shadow:… likewise, in "
    "shadow mode. May be repeated."
)


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A name for people; the id is made from it.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="The Rego; - reads standard input.")],
    kind: Annotated[PolicyKindName, typer.Option(help="When it is asked.")],
    policy_id: Annotated[str, typer.Option("--id", help="The id, if not made from the name.")] = "",
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    label: Annotated[list[str] | None, typer.Option(help=LABEL_HELP)] = None,
    test: TestFiles = None,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Stores a policy. What is wrong with its text is printed as file:line:column: message.

    `interlock policy create "deny destroy" deny_destroy.rego --kind task --label "autoattach:*"`
    """
    with connect(context) as client:
        policy = client.policies.create(
            name,
            policy_text.read(file),
            kind=kind.value,
            policy_id=policy_id,
            description=description,
            labels=label or (),
            file_name=policy_text.name(file),
            tests=_tests(test),
        )
    if policy.kind == PolicyKind.POLICY_KIND_LOGIN:
        next_step = "; it is asked at every login"
    else:
        next_step = "" if label else f"; attach it with: interlock policy attach {policy.id} STACK"
    _note_advice(policy)
    show.done(policy, f"policy {policy.id} is stored{next_step}", output)


@app.command("list")
def list_(
    context: typer.Context,
    stack: Annotated[
        str, typer.Option(help="Only those that apply to this stack.", autocompletion=complete.stacks)
    ] = "",
    kind: Annotated[PolicyKindName | None, typer.Option(help="Only this kind.")] = None,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Lists policies by id."""
    columns = {
        "ID": lambda policy: policy.id,
        "NAME": lambda policy: policy.name,
        "KIND": lambda policy: enums.name(PolicyKind, policy.kind),
        "REVISION": lambda policy: str(policy.revision),
        "LABELS": lambda policy: ",".join(policy.labels),
        "STACKS": lambda policy: ",".join(policy.attached_stack_ids),
        "QUARANTINE": _quarantine,
    }
    with connect(context) as client:
        listed = client.policies.list(
            stack_id=stack, kind=kind.value if kind else PolicyKind.POLICY_KIND_UNSPECIFIED
        )
        show.table(listed, columns, output)


@app.command("show")
def show_(
    context: typer.Context,
    policy_id: PolicyId,
    body: Annotated[bool, typer.Option("--body", help="Only its text, to be piped into a file.")] = False,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Shows a policy with its text."""
    with connect(context) as client:
        policy = client.policies.get(policy_id)
    if not body:
        show.record(policy, _fields(policy), output)
    if body or output is show.Format.TEXT:
        sys.stdout.write(policy.body if body else f"\n{policy.body}")


@app.command()
def update(
    context: typer.Context,
    policy_id: PolicyId,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="The new Rego; - reads standard input.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The new name.")] = None,
    description: Annotated[str | None, typer.Option(help="The new description.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="The new labels, in place of all old ones.")] = None,
    test: TestFiles = None,
    no_labels: Annotated[bool, typer.Option("--no-labels", help="Take all labels off.")] = False,
    etag: Annotated[
        str, typer.Option(help="Refuse unless this is the policy's etag: somebody else changed it meanwhile.")
    ] = "",
    output: show.Output = show.Format.TEXT,
) -> None:
    """Changes what is given and leaves the rest. Counts for every decision from then on."""
    body = None if file is None else policy_text.read(file)
    labels = [] if no_labels else label or None
    if body is None and name is None and description is None and labels is None:
        raise typer.BadParameter("nothing to change: give a FILE or an option")
    with connect(context) as client:
        policy = client.policies.update(
            policy_id,
            etag=etag,
            name=name,
            description=description,
            body=body,
            labels=labels,
            file_name="" if file is None else policy_text.name(file),
            tests=_tests(test),
        )
    _note_advice(policy)
    show.done(policy, f"policy {policy.id} is changed, revision {policy.revision}", output)


@app.command()
def delete(context: typer.Context, policy_id: PolicyId, yes: confirm.Yes = False) -> None:
    """Detaches a policy everywhere and deletes it."""
    confirm.require(f"delete policy {policy_id}", yes=yes)
    with connect(context) as client:
        client.policies.delete(policy_id)
    show.note(f"policy {policy_id} is deleted")


for command in (
    policy_new.new,
    policy_check.check,
    policy_attachment.attach,
    policy_attachment.detach,
    policy_attachment.attached,
    policy_attachment.stacks,
    policy_attachment.shadow_report,
    policy_record.history,
    policy_record.diff,
    policy_record.rollback,
    policy_trial.simulate,
    policy_trial.backtest,
    policy_record.release,
):
    app.command()(command)
app.command("test")(policy_tests.run)
app.command("eval")(policy_eval.eval_)
app.command("schema")(policy_new.schema)


def _note_advice(policy: Policy) -> None:
    for warning in policy.warnings:
        for line in failures.of_finding(warning):
            show.note(line)


def _fields(policy: Policy) -> dict[str, str]:
    return {
        "id": policy.id,
        "name": policy.name,
        "description": policy.description,
        "kind": enums.name(PolicyKind, policy.kind),
        "revision": str(policy.revision),
        "rego": enums.name(RegoVersion, policy.rego_version),
        "labels": ", ".join(policy.labels),
        "etag": policy.etag,
        "attached to": ", ".join(policy.attached_stack_ids),
        "changed": show.when(policy.update_time),
        **({"quarantine": _quarantine(policy)} if policy.HasField("quarantine") else {}),
    }


def _tests(files: list[str] | None) -> dict[str, str]:
    return {policy_text.name(file): policy_text.read(file) for file in files or ()}


def _quarantine(policy: Policy) -> str:
    """Since when and why it is not asked; empty where it is."""
    if not policy.HasField("quarantine"):
        return ""
    return f"since {show.when(policy.quarantine.since)}: {policy.quarantine.cause}"
