"""The commands, put together, and the boundary at which errors become text and an exit code."""

import importlib.metadata
import logging
from collections.abc import Sequence
from typing import Annotated

import typer

from interlock.cli import (
    admin,
    audit,
    complete,
    decision,
    dev,
    failures,
    key,
    limit,
    login,
    policy,
    pool,
    profile,
    runner,
    server,
    stack,
    task,
    tracked,
)
from interlock.cli import session as sessions
from interlock.errors import InterlockError

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="interlock",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `interlock dev`: it runs everything on this machine and says what to type next.",
)
app.add_typer(task.app, name="task")
app.add_typer(tracked.app, name="run")
app.add_typer(stack.app, name="stack")
app.add_typer(policy.app, name="policy")
app.add_typer(decision.app, name="decision")
app.add_typer(key.app, name="key")
app.add_typer(pool.app, name="pool")
app.add_typer(limit.app, name="limit")
app.add_typer(runner.app, name="runner")
app.add_typer(audit.app, name="audit")
app.add_typer(profile.app, name="profile")
app.add_typer(admin.app, name="admin")
app.command("whoami")(login.whoami)
app.command("login")(login.login)
app.command("dev")(dev.dev)
app.command("server")(server.server)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"interlock {importlib.metadata.version('interlock')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    profile_name: Annotated[
        str,
        typer.Option(
            "--profile",
            help="The stored profile to use, in place of INTERLOCK_PROFILE.",
            autocompletion=complete.profile_names,
        ),
    ] = "",
    address: Annotated[
        str,
        typer.Option(
            "--address",
            help="The control plane, HOST:PORT or unix:///PATH, in place of INTERLOCK_ADDRESS or the profile's.",
        ),
    ] = "",
    version: Annotated[  # noqa: ARG001  # its callback acts
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit."),
    ] = False,
) -> None:
    """Runs one-off commands on infrastructure stacks: coordinated, safe and audited.

    Credentials come from INTERLOCK_TOKEN or INTERLOCK_API_KEY, or from a profile that `interlock login` stored;
    they are never given as arguments, where others on the machine could read them.
    """
    context.obj = sessions.Session(profile_name=profile_name, address=address)


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code: 1 for an error, 2 for wrong usage."""
    logging.getLogger("interlock").addHandler(sessions.OnceEach())
    try:
        app(args=list(arguments), prog_name="interlock")
    except InterlockError as error:
        failures.report(error)
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_ERROR
    return 0
