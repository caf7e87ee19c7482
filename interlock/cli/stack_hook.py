"""`interlock stack hook`: the shell commands around a stack's phases."""

from collections.abc import MutableSequence
from typing import Annotated

import typer

from interlock.cli import complete, show
from interlock.cli.choices import HookPhase
from interlock.cli.session import connect
from interlock.types import Hooks

app = typer.Typer(no_args_is_help=True, help="Set the shell commands that run around init and the command.")

StackId = Annotated[
    str, typer.Argument(metavar="STACK", help="The stack's id.", autocompletion=complete.stacks)
]


@app.command("set")
def set_(
    context: typer.Context,
    stack_id: StackId,
    phase: Annotated[HookPhase, typer.Argument(help="When they run.")],
    commands: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND", help="In order; none takes the hook away.")
    ] = None,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Sets the commands of one phase, in place of those there were. Each argument is one command.

    `interlock stack hook set network before_init "cp prod.tfvars auto.tfvars" "terraform version"`
    """
    with connect(context) as client:
        before = client.stacks.get(stack_id)
        hooks = before.hooks
        _of(hooks, phase)[:] = commands or ()
        stack = client.stacks.update(stack_id, etag=before.etag, hooks=hooks)
    show.done(stack, f"{phase} on {stack_id}: {'; '.join(commands or ()) or 'nothing'}", output)


@app.command("list")
def list_(context: typer.Context, stack_id: StackId, output: show.Output = show.Format.TEXT) -> None:
    """Lists the commands of all phases, one a line."""
    with connect(context) as client:
        hooks = client.stacks.get(stack_id).hooks
    if output is show.Format.JSON:
        show.print_json(show.as_dict(hooks))
        return
    for phase in HookPhase:
        for command in _of(hooks, phase):
            print(f"{phase}\t{show.visible(command)}")


def _of(hooks: Hooks, phase: HookPhase) -> MutableSequence[str]:
    # The phases are the message's fields, by their names.
    commands: MutableSequence[str] = getattr(hooks, phase.value)
    return commands
