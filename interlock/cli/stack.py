"""`interlock stack`: what runs run on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from interlock import enums
from interlock.cli import (
    complete,
    confirm,
    progress,
    show,
    sources,
    stack_env,
    stack_file,
    stack_hold,
    stack_hook,
)
from interlock.cli.choices import PullPolicyName, ToolName
from interlock.cli.session import connect
from interlock.types import PullPolicy, RunState, SlotHolder, Stack, Tool

app = typer.Typer(no_args_is_help=True, help="Make stacks, and set what their runs find.")
app.add_typer(stack_env.app, name="env")
app.add_typer(stack_file.app, name="file")
app.add_typer(stack_hook.app, name="hook")
app.command("hold")(stack_hold.hold)
app.command("release")(stack_hold.release)

StackId = Annotated[
    str, typer.Argument(metavar="STACK", help="The stack's id.", autocompletion=complete.stacks)
]
StackIds = Annotated[
    list[str], typer.Argument(metavar="STACK", help="The stacks' ids.", autocompletion=complete.stacks)
]


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A name for people; the id is made from it.")],
    image: Annotated[str, typer.Option(help="Any image that has sh, e.g. hashicorp/terraform:1.11.")],
    tool: Annotated[ToolName, typer.Option(help="Whose init runs before commands.")],
    stack_id: Annotated[str, typer.Option("--id", help="The id, if not made from the name.")] = "",
    description: Annotated[str, typer.Option(help="What it is.")] = "",
    label: Annotated[
        list[str] | None, typer.Option(help="For policies and filters. May be repeated.")
    ] = None,
    git: sources.Git = None,
    ref: sources.Ref = None,
    project_root: sources.ProjectRoot = None,
    git_username: sources.Username = "",
    git_password_file: sources.PasswordFile = None,
    ssh_key_file: sources.SshKeyFile = None,
    ssh_known_hosts_file: sources.KnownHostsFile = None,
    init: Annotated[
        list[str] | None, typer.Option(help="With --tool custom: a command of init. May be repeated.")
    ] = None,
    plan: Annotated[
        list[str] | None,
        typer.Option(help="A command that plans, for tracked runs, in place of the tool's. May be repeated."),
    ] = None,
    apply: Annotated[
        list[str] | None, typer.Option(help="A command that applies what --plan left. May be repeated.")
    ] = None,
    autodeploy: Annotated[
        bool, typer.Option("--autodeploy", help="Tracked runs apply their plan without being confirmed.")
    ] = False,
    pull_policy: Annotated[
        PullPolicyName, typer.Option(help="When the image is asked of its registry.")
    ] = PullPolicyName.IF_NOT_PRESENT,
    pool: Annotated[str, typer.Option(help="Whose runners run it.", autocompletion=complete.pools)] = "",
    administrative: Annotated[
        bool, typer.Option("--administrative", help="It manages Interlock itself; policies see that.")
    ] = False,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Makes a stack. Its files come from --git, or else from `interlock stack push`.

    `interlock stack create network --tool terraform --image hashicorp/terraform:1.11`
    """
    credential = sources.credential(git_username, git_password_file, ssh_key_file, ssh_known_hosts_file)
    with connect(context) as client:
        stack = client.stacks.create(
            name,
            image=image,
            tool=tool.value,
            source=sources.new(git, ref, project_root, credential),
            stack_id=stack_id,
            description=description,
            labels=label or (),
            custom_init=init or (),
            custom_plan=plan or (),
            custom_apply=apply or (),
            autodeploy=autodeploy,
            pull_policy=pull_policy.value,
            pool_id=pool,
            administrative=administrative,
        )
    push = "" if git else f"; give it files with: interlock stack push {stack.id} DIRECTORY"
    show.done(stack, f"stack {stack.id} is made{push}", output)


@app.command("list")
def list_(
    context: typer.Context,
    label: Annotated[
        list[str] | None, typer.Option(help="Only those with this label. May be repeated.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Lists the stacks that you may read, by id."""
    columns = {
        "ID": lambda stack: stack.id,
        "NAME": lambda stack: stack.name,
        "TOOL": lambda stack: enums.name(Tool, stack.tool),
        "POOL": lambda stack: stack.pool_id,
        "ACTIVE RUN": lambda stack: _active_run(stack.slot_holder),
        "QUEUED": lambda stack: str(stack.queued_runs),
        "LOCKED BY": lambda stack: stack.lock.owner.login,
        "LABELS": lambda stack: ",".join(stack.labels),
    }
    with connect(context) as client:
        show.table(client.stacks.list(labels=label or (), limit=limit), columns, output)


@app.command("show")
def show_(context: typer.Context, stack_id: StackId, output: show.Output = show.Format.TEXT) -> None:
    """Shows a stack."""
    with connect(context) as client:
        stack = client.stacks.get(stack_id)
    show.record(stack, _fields(stack), output)


@app.command()
def update(
    context: typer.Context,
    stack_id: StackId,
    name: Annotated[str | None, typer.Option(help="The new name.")] = None,
    image: Annotated[str | None, typer.Option(help="The new image.")] = None,
    tool: Annotated[ToolName | None, typer.Option(help="The new tool.")] = None,
    description: Annotated[str | None, typer.Option(help="The new description.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="The new labels, in place of all old ones.")] = None,
    no_labels: Annotated[bool, typer.Option("--no-labels", help="Take all labels off.")] = False,
    git: sources.Git = None,
    ref: sources.Ref = None,
    project_root: sources.ProjectRoot = None,
    git_username: sources.Username = "",
    git_password_file: sources.PasswordFile = None,
    ssh_key_file: sources.SshKeyFile = None,
    ssh_known_hosts_file: sources.KnownHostsFile = None,
    init: Annotated[
        list[str] | None, typer.Option(help="The new commands of init, in place of the old.")
    ] = None,
    plan: Annotated[
        list[str] | None, typer.Option(help="The new commands that plan, in place of the old.")
    ] = None,
    apply: Annotated[
        list[str] | None, typer.Option(help="The new commands that apply, in place of the old.")
    ] = None,
    autodeploy: Annotated[
        bool | None, typer.Option("--autodeploy/--no-autodeploy", help="As for create.")
    ] = None,
    pull_policy: Annotated[PullPolicyName | None, typer.Option(help="The new pull policy.")] = None,
    pool: Annotated[str | None, typer.Option(help="The new pool.", autocompletion=complete.pools)] = None,
    administrative: Annotated[
        bool | None, typer.Option("--administrative/--not-administrative", help="As for create.")
    ] = None,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Changes what is given and leaves the rest. Runs that are queued take the stack as it is when they start.

    `interlock stack update network --ref v2 --image hashicorp/terraform:1.12`
    """
    credential = sources.credential(git_username, git_password_file, ssh_key_file, ssh_known_hosts_file)
    with connect(context) as client:
        before = client.stacks.get(stack_id)
        source = sources.changed(before.source, git, ref, project_root, credential)
        stack = client.stacks.update(
            stack_id,
            etag=before.etag,
            name=name,
            description=description,
            labels=[] if no_labels else label or None,
            source=source,
            tool=tool.value if tool else None,
            custom_init=init or None,
            custom_plan=plan or None,
            custom_apply=apply or None,
            autodeploy=autodeploy,
            image=image,
            pull_policy=pull_policy.value if pull_policy else None,
            pool_id=pool,
            administrative=administrative,
        )
    show.done(stack, f"stack {stack.id} is changed", output)


@app.command()
def delete(context: typer.Context, stack_id: StackId, yes: confirm.Yes = False) -> None:
    """Deletes a stack on which nothing runs or waits. The record of its runs stays."""
    confirm.require(f"delete stack {stack_id}", yes=yes)
    with connect(context) as client:
        client.stacks.delete(stack_id)
    show.note(f"stack {stack_id} is deleted")


@app.command()
def lock(
    context: typer.Context,
    stack_ids: StackIds,
    note: Annotated[str, typer.Option(help="Why; others are shown it.")] = "",
    output: show.Output = show.Format.TEXT,
) -> None:
    """Takes the lock of all these stacks, or of none: only you can trigger runs on them then."""
    with connect(context) as client:
        stacks = client.stacks.lock(*stack_ids, note=note)
    _show_changed(stacks, "is locked by you", output)


@app.command()
def unlock(context: typer.Context, stack_ids: StackIds, output: show.Output = show.Format.TEXT) -> None:
    """Lets go of all these locks, or of none. Admins may let go of other people's."""
    with connect(context) as client:
        stacks = client.stacks.unlock(*stack_ids)
    _show_changed(stacks, "is not locked", output)


@app.command()
def push(
    context: typer.Context,
    stack_id: StackId,
    directory: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="The folder with its files.")
    ],
    output: show.Output = show.Format.TEXT,
) -> None:
    """Uploads a folder as the stack's files, for tasks that are created afterwards.

    Left out are .git and what the folder's .interlockignore names, in the syntax of .gitignore. The same files
    give the same archive, byte for byte.
    """
    with connect(context) as client, progress.bar("uploading") as report:
        stack = client.stacks.push(stack_id, directory, progress=report)
    archive = stack.source.archive
    show.done(stack, f"stack {stack_id} has {archive.size_bytes} bytes, SHA-256 {archive.sha256}", output)


def _show_changed(stacks: Sequence[Stack], what: str, output: show.Format) -> None:
    if output is show.Format.JSON:
        show.print_json([show.as_dict(stack) for stack in stacks])
    else:
        for stack in stacks:
            show.note(f"stack {stack.id} {what}")


def _active_run(holder: SlotHolder) -> str:
    is_expired = holder.state == RunState.RUN_STATE_EXPIRED
    return f"{holder.run_id} (hold, expired)" if is_expired else holder.run_id


def _fields(stack: Stack) -> dict[str, str]:
    lock = stack.lock
    return {
        "id": stack.id,
        "name": stack.name,
        "description": stack.description,
        "labels": ", ".join(stack.labels),
        "tool": enums.name(Tool, stack.tool),
        "init": "; ".join(stack.custom_init),
        "plan": "; ".join(stack.custom_plan),
        "apply": "; ".join(stack.custom_apply),
        "autodeploy": "yes" if stack.autodeploy else "",
        "image": f"{stack.image} (pull: {enums.name(PullPolicy, stack.pull_policy)})",
        "pool": stack.pool_id,
        "source": sources.describe(stack.source),
        "administrative": "yes" if stack.administrative else "",
        "lock": f"{lock.owner.login} since {show.when(lock.lock_time)}: {lock.note or '-'}"
        if lock.owner.id
        else "",
        "active run": stack_hold.described(stack.slot_holder),
        "queued runs": str(stack.queued_runs),
        "created": show.when(stack.create_time),
        "changed": show.when(stack.update_time),
    }
