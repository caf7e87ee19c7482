"""`interlock task abandon` and `late`: giving up a run that nobody can reach, and what came of it afterwards."""

import sys
from typing import Annotated

import typer

from interlock.cli import complete, confirm, show
from interlock.cli.session import connect
from interlock.types import Run
from interlock.v1.run_pb2 import RUN_FAILURE_ABANDONED

RunId = Annotated[
    str, typer.Argument(metavar="RUN", help="The run's id, run_….", autocompletion=complete.runs)
]


def abandon(
    context: typer.Context,
    run_id: RunId,
    reason: Annotated[str, typer.Option(help="Why; kept with the run and in the audit log.")],
    force: Annotated[
        bool,
        typer.Option("--force", help="Also where its runner is in reach: its command may be performing."),
    ] = False,
    yes: confirm.Yes = False,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Gives up a run that performs on a runner out of reach, and frees the stack's slot. For admins.

    Make sure first that the runner's machine does nothing any more: from then on the next run may start. If the runner
    comes back, its command goes on to its end, and what it reports is kept beside the run as late evidence.
    """
    confirm.require(f"abandon {run_id}, whose command may be performing still", yes=yes)
    with connect(context) as client:
        run = client.runs.abandon(run_id, reason=reason, force=force)
    show.done(run, f"{run.id}: {run.state_reason}; the slot of {run.stack_id} is free", output)


def late(
    context: typer.Context,
    run_id: RunId,
    offset: Annotated[
        int, typer.Option(min=0, help="The first byte wanted, counted from the run's first.")
    ] = 0,
) -> None:
    """Shows what an abandoned run's runner wrote afterwards, as far as it has come."""
    with connect(context) as client:
        for chunk in client.runs.late_output(run_id, offset=offset):
            sys.stdout.buffer.write(chunk.data)
    sys.stdout.buffer.flush()


def described(run: Run) -> str:
    """What is known of an abandoned run since; empty for every other run."""
    if run.failure != RUN_FAILURE_ABANDONED:
        return ""
    evidence = run.late_evidence
    if not run.HasField("late_evidence"):
        return "none: its runner has not come back"
    output = f"{evidence.output_size_bytes} bytes of output (interlock task late {run.id})"
    if not evidence.HasField("report_time"):
        return f"its runner has it since {show.when(evidence.return_time)}, and has not reported its end; {output}"
    ended = f"exit code {evidence.exit_code}" if evidence.HasField("exit_code") else evidence.reason
    return f"{ended}, reported {show.when(evidence.report_time)}; {output}"
