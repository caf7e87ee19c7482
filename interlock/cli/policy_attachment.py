"""`interlock policy attach|detach|attached|stacks|shadow-report`: where a policy counts, and why."""

from typing import Annotated

import typer

from interlock import enums
from interlock.cli import complete, moments, show
from interlock.cli.session import connect
from interlock.types import AttachedPolicy, PolicyKind, PolicyStack

PolicyId = Annotated[
    str, typer.Argument(metavar="POLICY", help="The policy's id.", autocompletion=complete.policies)
]
StackId = Annotated[
    str, typer.Argument(metavar="STACK", help="The stack's id.", autocompletion=complete.stacks)
]


def attach(
    context: typer.Context,
    policy_id: PolicyId,
    stack_id: StackId,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Evaluate and record it with every decision; never count it.")
    ] = False,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Attaches a policy to a stack. Doing it twice is harmless; without --shadow it counts from then on."""
    with connect(context) as client:
        policy = client.policies.attach(policy_id, stack_id, shadow=shadow)
    how = " in shadow mode" if shadow else ""
    show.done(policy, f"policy {policy_id} is attached to {stack_id}{how}", output)


def detach(
    context: typer.Context, policy_id: PolicyId, stack_id: StackId, output: show.Output = show.Format.TEXT
) -> None:
    """Detaches a policy that was attached by hand. What a label attached goes with the label."""
    with connect(context) as client:
        policy = client.policies.detach(policy_id, stack_id)
    show.done(policy, f"policy {policy_id} is detached from {stack_id}", output)


def attached(context: typer.Context, stack_id: StackId, output: show.Output = show.Format.TEXT) -> None:
    """Lists the policies that apply to a stack, and why each does."""
    columns = {
        "ID": lambda each: each.policy.id,
        "KIND": lambda each: enums.name(PolicyKind, each.policy.kind),
        "REVISION": lambda each: str(each.policy.revision),
        "COUNTS": _counts,
        "WHY": _why,
    }
    with connect(context) as client:
        show.table(client.policies.attached(stack_id), columns, output)


def stacks(context: typer.Context, policy_id: PolicyId, output: show.Output = show.Format.TEXT) -> None:
    """Lists the stacks that a policy applies to, and why to each."""
    columns = {"ID": lambda each: each.stack_id, "COUNTS": _counts, "WHY": _why}
    with connect(context) as client:
        policy = client.policies.get(policy_id)
        found = list(client.policies.stacks(policy_id))
    show.table(found, columns, output)
    if policy.kind == PolicyKind.POLICY_KIND_LOGIN:
        show.note(f"{policy_id} is a login policy: it is asked at every login, and is not attached")


def shadow_report(
    context: typer.Context,
    policy_id: PolicyId,
    since: Annotated[
        str, typer.Option(metavar="WHEN", help="A time such as 2026-05-01T08:00Z, or 2h ago: 2h.")
    ] = "",
    output: show.Output = show.Format.TEXT,
) -> None:
    """Shows what would have changed, had a policy in shadow mode counted."""
    with connect(context) as client:
        report = client.policies.shadow_report(policy_id, since=moments.parse(since))
    fields = {
        "decisions": str(report.decisions),
        "stricter": str(report.stricter),
        "more lenient": str(report.more_lenient),
        "failed": str(report.failed),
        **{f"stack {each.subject}": str(each.changed) for each in report.stacks},
        **{f"caller {each.subject}": str(each.changed) for each in report.callers},
        **{f"message {each.subject}": str(each.changed) for each in report.messages},
        "look at": ", ".join(report.decision_ids[:5]),
    }
    show.record(report, fields, output)


def _counts(each: AttachedPolicy | PolicyStack) -> str:
    return "shadow" if each.shadow else "yes"


def _why(each: AttachedPolicy | PolicyStack) -> str:
    """As in `by hand since 2026-05-01T08:00:00Z, label autoattach:production`."""
    return ", ".join(
        f"label {reason.label}" if reason.label else f"by hand since {show.when(reason.attach_time)}"
        for reason in each.reasons
    )
