"""`interlock runner`: becomes a runner; `interlock runner list` lists them."""

from typing import Annotated

import typer

from interlock import enums
from interlock.cli import complete, show
from interlock.cli.server import become
from interlock.cli.session import connect
from interlock.types import Runner, RunnerState

app = typer.Typer(help="Run a runner, or list those there are.")


@app.callback(invoke_without_command=True)
def runner(context: typer.Context) -> None:
    """Runs a runner in this process, until it gets SIGTERM. It dials out only.

    It is set up by the environment: INTERLOCK_ADDRESS, INTERLOCK_POOL_TOKEN (from `interlock pool token create`)
    or INTERLOCK_POOL_TOKEN_FILE, INTERLOCK_RUNNER_DIR, INTERLOCK_RUNNER_CAPACITY, INTERLOCK_RUNNER_NAME,
    DOCKER_HOST and those in docs/operating.md.
    """
    if context.invoked_subcommand is None:
        become("runner", extra="runner", needs="docker")


@app.command("list")
def list_(
    context: typer.Context,
    pool: Annotated[str, typer.Option(help="Only this pool's.", autocompletion=complete.pools)] = "",
    output: show.Output = show.Format.TEXT,
) -> None:
    """Lists the runners with their state and what they run."""
    columns = {
        "ID": lambda runner: runner.id,
        "NAME": lambda runner: runner.name,
        "POOL": lambda runner: runner.pool_id,
        "STATE": _state,
        "RUNS": lambda runner: f"{len(runner.active_run_ids)}/{runner.capacity}",
        "VERSION": lambda runner: runner.version,
        "LAST HEARD": lambda runner: show.when(runner.last_heartbeat_time),
    }
    with connect(context) as client:
        show.table(client.pools.list_runners(pool_id=pool), columns, output)


def _state(runner: Runner) -> str:
    state = enums.name(RunnerState, runner.state)
    return f"{state}: {runner.state_reason}" if runner.state_reason else state
