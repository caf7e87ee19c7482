"""`interlock task`: one-off commands on stacks."""

import asyncio
import os
import shlex
import sys
from collections.abc import Coroutine
from datetime import UTC
from typing import Annotated

import typer

from interlock import enums
from interlock.cli import (
    complete,
    durations,
    failures,
    moments,
    plan_text,
    show,
    task_abandon,
    task_explain,
    task_run,
    task_screen,
)
from interlock.cli.choices import StateName
from interlock.cli.session import connect, session
from interlock.errors import InterlockError
from interlock.types import Review, ReviewVerdict, Run, RunFailure, RunState, RunType

app = typer.Typer(no_args_is_help=True, help="Run one-off commands on stacks, and follow them.")

StackId = Annotated[
    str, typer.Argument(metavar="STACK", help="The stack's id.", autocompletion=complete.stacks)
]
Note = Annotated[str, typer.Option("--note", "-m", help="Why; kept with the run.")]
QueueTimeout = Annotated[
    str,
    typer.Option(metavar="DURATION", help="Discard it if no runner has it within so long, e.g. 30m."),
]
RunId = Annotated[
    str, typer.Argument(metavar="RUN", help="The run's id, run_….", autocompletion=complete.runs)
]

app.command("abandon")(task_abandon.abandon)
app.command("late")(task_abandon.late)


@app.command()
def run(
    context: typer.Context,
    stack_id: StackId,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="What to run; put -- before it.")],
    skip_init: Annotated[
        bool, typer.Option("--skip-init", help="Go to the command without hooks and init.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Print the run's id and do not wait.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Create nothing; say whether it may run, and which policy says what."),
    ] = False,
    request_id: Annotated[
        str,
        typer.Option(help="Your name for this task: the same one again gives the same run, not a second."),
    ] = "",
    queue_timeout: QueueTimeout = "",
    output: show.Output = show.Format.TEXT,
) -> None:
    """Runs a command on a stack and shows its output as it comes.

    `interlock task run network -- terraform state list`

    `interlock task run network --skip-init -- 'env | sort'`

    A single word after -- is taken as shell text, several are quoted for the shell. The command's output goes to
    standard output byte for byte, the run's states and what it waits for to standard error.

    The exit code is the command's; 125 where Interlock itself refused or failed. Ctrl-C stops the run before it
    performs (on a terminal it asks); a command that performs is never stopped, and Ctrl-C only stops watching.
    With --dry-run it is 0 where the task would be created, also where it would wait for approval, else 125.
    """
    text = command[0] if len(command) == 1 else shlex.join(command)
    if dry_run:
        with connect(context) as client:
            is_allowed = task_explain.explain(client, stack_id, text, output)
        raise typer.Exit(0 if is_allowed else task_run.EXIT_INTERLOCK)
    attended = task_run.run_task(
        session(context).connect_async,
        stack_id,
        text,
        skip_initialization=skip_init,
        queue_timeout=durations.parse(queue_timeout) if queue_timeout else None,
        request_id=request_id,
        detach=detach,
        output=output,
    )
    raise typer.Exit(exit_code_of(attended))


@app.command()
def watch(
    context: typer.Context,
    run_id: RunId,
    offset: Annotated[int, typer.Option(min=0, help="The first byte of output wanted.")] = 0,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Shows a run's output from the beginning and goes on until it is over. Its exit code is as for `task run`.

    Ctrl-C stops watching; the run goes on.
    """
    raise typer.Exit(
        exit_code_of(task_run.watch(session(context).connect_async, run_id, offset=offset, output=output))
    )


@app.command("list")
def list_(
    context: typer.Context,
    stack: Annotated[str, typer.Option(help="Only on this stack.", autocompletion=complete.stacks)] = "",
    state: Annotated[
        list[StateName] | None, typer.Option(help="Only in this state. May be repeated.")
    ] = None,
    caller: Annotated[str, typer.Option(help="Only what this login created.")] = "",
    since: Annotated[
        str, typer.Option(metavar="WHEN", help="A time such as 2026-05-01T08:00Z, or 2h ago: 2h.")
    ] = "",
    until: Annotated[str, typer.Option(metavar="WHEN", help="Likewise.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Lists runs, newest first."""
    columns = {
        "ID": lambda run: run.id,
        "STACK": lambda run: run.stack_id,
        "STATE": lambda run: enums.name(RunState, run.state),
        "EXIT": lambda run: str(run.exit_code) if run.HasField("exit_code") else "",
        "BY": lambda run: run.creator.login,
        "CREATED": lambda run: show.when(run.create_time),
        "COMMAND": _what,
    }
    with connect(context) as client:
        listed = client.runs.list(
            stack_id=stack,
            states=[each.value for each in state or ()],
            caller_login=caller,
            created_after=moments.parse(since),
            created_before=moments.parse(until),
            limit=limit,
        )
        show.table(listed, columns, output)


@app.command("show")
def show_(context: typer.Context, run_id: RunId, output: show.Output = show.Format.TEXT) -> None:
    """Shows a run with all its states, and what it waits for."""
    with connect(context) as client:
        run = client.runs.get(run_id)
    show.record(run, _fields(run), output)


@app.command()
def stop(context: typer.Context, run_id: RunId, output: show.Output = show.Format.TEXT) -> None:
    """Stops a run that has not begun to perform. After that nothing stops it."""
    with connect(context) as client:
        run = client.runs.stop(run_id)
    show.done(
        run,
        f"{run.id}: {enums.name(RunState, run.state)}{', to be stopped' if run.stop_requested else ''}",
        output,
    )


@app.command()
def discard(context: typer.Context, run_id: RunId, output: show.Output = show.Format.TEXT) -> None:
    """Takes a run out of the queue."""
    with connect(context) as client:
        run = client.runs.discard(run_id)
    show.done(run, f"{run.id}: {enums.name(RunState, run.state)}", output)


@app.command()
def approve(
    context: typer.Context, run_id: RunId, note: Note = "", output: show.Output = show.Format.TEXT
) -> None:
    """Approves a run that waits for approval. Your newest review counts; policies decide whether it is enough."""
    with connect(context) as client:
        run = client.runs.approve(run_id, note)
    show.done(run, _reviewed(run), output)


@app.command()
def reject(
    context: typer.Context, run_id: RunId, note: Note = "", output: show.Output = show.Format.TEXT
) -> None:
    """Rejects a run that waits for approval. Policies decide whether that ends it."""
    with connect(context) as client:
        run = client.runs.reject(run_id, note)
    show.done(run, _reviewed(run), output)


def _reviewed(run: Run) -> str:
    return f"{run.id}: {enums.name(RunState, run.state)}, {run.waiting.message or run.state_reason}"


def exit_code_of(attended: Coroutine[None, None, int]) -> int:
    """Of attending a run; what went wrong with that is reported."""
    try:
        return asyncio.run(attended)
    except InterlockError as error:
        failures.report(error)
        return task_run.EXIT_INTERLOCK
    except BrokenPipeError:
        # The reader went away (`| head`); the run goes on. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return task_run.EXIT_PIPE_CLOSED


def _what(run: Run) -> str:
    match run.type:
        case RunType.RUN_TYPE_TRACKED:
            return "(plan and apply)"
        case RunType.RUN_TYPE_HOLD:
            return f"(hold) {run.hold.purpose}".strip()
        case _:
            return run.command


def _hold(run: Run) -> dict[str, str]:
    if run.type != RunType.RUN_TYPE_HOLD:
        return {}
    seconds = run.hold.lease.ToTimedelta().total_seconds()
    then = "then released" if run.hold.release_on_expiry else "then expired, and still the holder"
    return {
        "hold": run.hold.purpose or "-",
        "lease": f"{seconds:g} s, {then}",
        "lease ends": show.when(run.hold.lease_end_time),
    }


def _fields(run: Run) -> dict[str, str]:
    failure = enums.name(RunFailure, run.failure) if run.failure else ""
    took = run.finish_time.ToDatetime(UTC) - run.create_time.ToDatetime(UTC)
    return {
        "id": run.id,
        "stack": run.stack_id,
        "command": run.command,
        **plan_text.fields_of(run),
        **_hold(run),
        "state": " ".join(filter(None, [enums.name(RunState, run.state), failure and f"({failure})"])),
        "why": run.state_reason,
        "waits": run.waiting.message and run.waiting.message + task_screen.place(run.waiting),
        "may wait until": show.when(run.queue_deadline),
        "unreachable since": show.when(run.unreachable_since),
        "exit code": str(run.exit_code) if run.HasField("exit_code") else "",
        "by": run.creator.login,
        "created": show.when(run.create_time),
        "took": f"{took.total_seconds():.1f} s" if run.HasField("finish_time") else "",
        "states": " → ".join(_states(run)),
        "reviews": "; ".join(map(_review, run.reviews)),
        "output": f"{run.output_size_bytes} bytes{f', SHA-256 {run.output_sha256}' if run.output_sha256 else ''}",
        "source": run.commit.hash or run.source_sha256,
        "decision": run.decision_id,
        "approval decision": run.approval_decision_id,
        "runner": run.runner_id,
        "late evidence": task_abandon.described(run),
    }


def _states(run: Run) -> list[str]:
    """Each once, also where a review added to the history of the state before."""
    names = [enums.name(RunState, change.state) for change in run.history]
    return [name for before, name in zip(["", *names], names, strict=False) if name != before]


def _review(review: Review) -> str:
    verb = "approved" if review.verdict == ReviewVerdict.REVIEW_VERDICT_APPROVE else "rejected"
    note = f": {review.note}" if review.note else ""
    return f"{verb} by {review.reviewer.login}{note}{' (superseded)' if review.superseded else ''}"
