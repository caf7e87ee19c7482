"""`interlock run`: a stack's own sequence of plan and apply, called a tracked run."""

from collections.abc import Iterator
from typing import Annotated

import typer

from interlock import enums
from interlock.cli import complete, durations, plan_text, show, task, task_run
from interlock.cli.session import connect, session
from interlock.types import ChangeAction, Plan, RunState

app = typer.Typer(
    no_args_is_help=True,
    help="Plan a stack, look at the plan, and apply exactly that or discard it. No task runs meanwhile.",
)

StackId = Annotated[
    str, typer.Argument(metavar="STACK", help="The stack's id.", autocompletion=complete.stacks)
]
RunId = Annotated[
    str, typer.Argument(metavar="RUN", help="The run's id, run_….", autocompletion=complete.runs)
]
Note = Annotated[str, typer.Option("--note", "-m", help="Why; kept with the run and in the audit log.")]

# What these do is the same for every run.
app.command("watch")(task.watch)
app.command("show")(task.show_)
app.command("list")(task.list_)
app.command("stop")(task.stop)


@app.command()
def start(
    context: typer.Context,
    stack_id: StackId,
    auto_confirm: Annotated[
        bool | None,
        typer.Option(
            "--auto-confirm/--no-auto-confirm",
            help="Apply a plan with changes without asking, or ask; by default as the stack's autodeploy says.",
        ),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Print the run's id and do not wait.")
    ] = False,
    request_id: Annotated[
        str,
        typer.Option(help="Your name for this run: the same one again gives the same run, not a second."),
    ] = "",
    queue_timeout: task.QueueTimeout = "",
    output: show.Output = show.Format.TEXT,
) -> None:
    """Plans a stack and shows the plan as it is made.

    It ends where the plan waits to be confirmed, or where the run is over: a plan without changes finishes it.
    The exit code is 0 in both cases, that of the plan or apply where it failed, and 125 where Interlock refused.
    Ctrl-C stops the run before it applies.
    """
    attended = task_run.start_run(
        session(context).connect_async,
        stack_id,
        auto_confirm=auto_confirm,
        queue_timeout=durations.parse(queue_timeout) if queue_timeout else None,
        request_id=request_id,
        detach=detach,
        output=output,
    )
    raise typer.Exit(task.exit_code_of(attended))


@app.command()
def confirm(
    context: typer.Context, run_id: RunId, note: Note = "", output: show.Output = show.Format.TEXT
) -> None:
    """Lets a plan be applied, exactly as it is. Nothing takes that back once the apply has begun."""
    with connect(context) as client:
        run = client.runs.confirm(run_id, note)
    show.done(run, f"{run.id}: {enums.name(RunState, run.state)}; interlock run watch {run.id}", output)


@app.command()
def discard(
    context: typer.Context, run_id: RunId, note: Note = "", output: show.Output = show.Format.TEXT
) -> None:
    """Discards a plan that waits to be confirmed, or takes a run out of the queue. The stack is free then."""
    with connect(context) as client:
        run = client.runs.discard(run_id, note)
    show.done(run, f"{run.id}: {enums.name(RunState, run.state)}", output)


@app.command()
def plan(context: typer.Context, run_id: RunId, output: show.Output = show.Format.TEXT) -> None:
    """Lists what a plan changes: addresses and actions, never values."""
    with connect(context) as client:
        made = client.runs.plan(run_id)
    if output is show.Format.JSON:
        show.print_json(show.as_dict(made))
        return
    for line in _lines(made):
        print(line)
    show.note(plan_text.described(made.summary))


def _lines(made: Plan) -> Iterator[str]:
    for change in made.changes:
        action = (
            enums.name(ChangeAction, change.action).lower().replace("_", " ") if change.action else "import"
        )
        yield f"{action}\t{show.visible(change.address)}"
    if made.is_cut_off:
        yield "…\tand more, which are counted and not listed"
