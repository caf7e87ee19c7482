"""`interlock stack env`: the variables of a stack's runs."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from interlock.cli import complete, show
from interlock.cli.secret_input import read_secret
from interlock.cli.session import connect
from interlock.errors import Misconfigured
from interlock.types import Environment, EnvironmentVariable

app = typer.Typer(no_args_is_help=True, help="Set the variables that a stack's runs see.")

StackId = Annotated[
    str, typer.Argument(metavar="STACK", help="The stack's id.", autocompletion=complete.stacks)
]


@app.command("set")
def set_(
    context: typer.Context,
    stack_id: StackId,
    assignments: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=VALUE", help="Plain variables.")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A secret: asks for its value, or reads standard input. May be repeated."
        ),
    ] = None,
    secret_from: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=VARIABLE]", help="A secret with the value of this shell's VARIABLE, or of NAME."
        ),
    ] = None,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Sets variables, all or none; others stay. Counts for runs that start afterwards.

    Secrets are write-only and masked in output. Their values are never arguments, which others could read:

    `interlock stack env set network TF_LOG=info --secret DB_PASSWORD`

    `pass db/prod | interlock stack env set network --secret DB_PASSWORD`
    """
    variables = dict(_assignment(text) for text in assignments or ())
    secrets = _asked(secret or ()) | dict(_from_environment(text) for text in secret_from or ())
    if not variables and not secrets:
        raise typer.BadParameter("nothing to set: give NAME=VALUE or --secret NAME")
    with connect(context) as client:
        environment = client.stacks.set_environment(stack_id, variables=variables, secrets=secrets)
    show.done(environment, f"set on {stack_id}: {', '.join([*variables, *secrets])}", output)


@app.command()
def unset(
    context: typer.Context,
    stack_id: StackId,
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="The variables.")],
    output: show.Output = show.Format.TEXT,
) -> None:
    """Removes variables, all or none."""
    with connect(context) as client:
        environment = client.stacks.unset_environment(stack_id, names=names)
    show.done(environment, f"removed from {stack_id}: {', '.join(names)}", output)


@app.command("list")
def list_(context: typer.Context, stack_id: StackId, output: show.Output = show.Format.TEXT) -> None:
    """Lists the variables; of secrets a checksum, to tell whether two are the same."""
    columns = {"NAME": _name, "VALUE": _value}
    with connect(context) as client:
        environment: Environment = client.stacks.get_environment(stack_id)
    show.table(environment.variables, columns, output)


def _name(variable: EnvironmentVariable) -> str:
    return variable.name


def _value(variable: EnvironmentVariable) -> str:
    return f"*** ({variable.checksum})" if variable.secret else variable.value


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"{text!r}: write NAME=VALUE, or --secret NAME for a secret")
    return name, value


def _asked(names: Sequence[str]) -> dict[str, str]:
    if any("=" in name for name in names):
        raise typer.BadParameter(
            "--secret takes a name only; its value is asked for or read from standard input"
        )
    if len(names) > 1 and not sys.stdin.isatty():
        raise typer.BadParameter("standard input holds one secret; give the others by --secret-from")
    return {name: read_secret(name) for name in names}


def _from_environment(text: str) -> tuple[str, str]:
    name, _, variable = text.partition("=")
    value = os.environ.get(variable or name)
    if value is None:
        raise Misconfigured(f"--secret-from {text}: the variable {variable or name} is not set here")
    return name, value
