"""`interlock stack hold` and `release`: a stack's slot for what does not run in Interlock."""

from typing import Annotated

import typer

from interlock import enums
from interlock.cli import complete, confirm, durations, held_command, show, task
from interlock.cli.session import connect, session
from interlock.types import RunState, RunType, SlotHolder, Stack

StackId = Annotated[
    str, typer.Argument(metavar="STACK", help="The stack's id.", autocompletion=complete.stacks)
]


def hold(
    context: typer.Context,
    stack_id: StackId,
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="What to run here; put -- before it.")
    ],
    purpose: Annotated[
        str, typer.Option("--purpose", "-m", help="What it is for; others who wait are shown it.")
    ] = "",
    lease: Annotated[
        str, typer.Option(metavar="DURATION", help="How long it lasts without being renewed, 1s to 24h.")
    ] = "60s",
    release_on_expiry: Annotated[
        bool,
        typer.Option(
            "--release-on-expiry", help="Free the slot when the lease ends, whatever the command does then."
        ),
    ] = False,
    queue_timeout: Annotated[
        str, typer.Option(metavar="DURATION", help="Give up if the slot has not come to it within so long.")
    ] = "",
) -> None:
    """Runs a command on this machine while it holds the stack's slot: no task or other run is active meanwhile.

    `interlock stack hold network -m "move state" -- terraform state mv a b`

    It waits in the stack's queue, says on standard error for whom, and renews its lease while the command runs. The
    command finds INTERLOCK_FENCING_TOKEN, INTERLOCK_RUN_ID and INTERLOCK_STACK_ID in its environment. A single word after
    -- is taken as shell text.

    The exit code is the command's; 125 where Interlock itself refused or failed, also where the command ended with 0 and
    the slot was lost before that. Ctrl-C while it waits leaves the queue. While the command runs, Ctrl-C and SIGTERM go
    to the command, and the slot is held until it has ended. Where the lease cannot be renewed it says so, and the
    command goes on: the slot stays taken until you or an admin let go (`interlock stack release`), but with
    --release-on-expiry.
    """
    argv = ["sh", "-c", command[0]] if len(command) == 1 else command
    wanted = held_command.Wanted(
        stack_id,
        purpose,
        durations.parse(lease),
        release_on_expiry,
        durations.parse(queue_timeout) if queue_timeout else None,
    )
    raise typer.Exit(task.exit_code_of(held_command.run(session(context).connect_async, wanted, argv)))


def release(
    context: typer.Context,
    stack_id: StackId,
    reason: Annotated[
        str, typer.Option(help="Why; kept with the hold. Needed to let go of somebody else's.")
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also somebody else's that has not expired: they may be at work.")
    ] = False,
    yes: confirm.Yes = False,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Lets go of the hold on a stack, so that the next run starts: your own, or as an admin somebody else's.

    Make sure first that nothing is done under it any more.
    """
    with connect(context) as client:
        stack = client.stacks.get(stack_id)
        holder = stack.slot_holder
        if holder.type != RunType.RUN_TYPE_HOLD:
            raise typer.BadParameter(_no_hold(stack))
        if force:
            confirm.require(f"let go of {holder.owner.login}'s hold, who may be at work", yes=yes)
        run = client.slots.release(
            holder.run_id, fencing_token=stack.fencing_token, reason=reason, force=force
        )
    show.done(run, f"{run.id}: {run.state_reason}; the slot of {stack_id} is free", output)


def described(holder: SlotHolder) -> str:
    """What holds the slot; empty while it is free."""
    if not holder.run_id:
        return ""
    state = enums.name(RunState, holder.state)
    if holder.type != RunType.RUN_TYPE_HOLD:
        return f"{holder.run_id} of {holder.owner.login}, {state}"
    until = "since" if holder.state == RunState.RUN_STATE_EXPIRED else "until"
    purpose = f": {holder.hold.purpose}" if holder.hold.purpose else ""
    when = show.when(holder.hold.lease_end_time)
    return f"{holder.run_id}, {holder.owner.login}'s hold, {state} {until} {when}{purpose}"


def _no_hold(stack: Stack) -> str:
    if not stack.active_run_id:
        return f"nobody holds the slot of {stack.id}: it is free"
    return f"the slot of {stack.id} is held by {described(stack.slot_holder)}, which is no hold; see: interlock task show"
