"""`interlock stack file`: the files that are put into a stack's workspace."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from interlock.cli import complete, show
from interlock.cli.session import connect
from interlock.errors import Misconfigured
from interlock.types import MountedFile

app = typer.Typer(no_args_is_help=True, help="Put files into the workspace of a stack's runs.")

StackId = Annotated[
    str, typer.Argument(metavar="STACK", help="The stack's id.", autocompletion=complete.stacks)
]


@app.command("set")
def set_(
    context: typer.Context,
    stack_id: StackId,
    path: Annotated[str, typer.Argument(help="Where it goes, relative to /mnt/workspace.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="Its content; - reads standard input.")],
    secret: Annotated[
        bool, typer.Option("--secret", help="Write-only, and its lines masked in output.")
    ] = False,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Adds or replaces a file, for runs that start afterwards.

    `interlock stack file set network source/prod.auto.tfvars prod.tfvars --secret`
    """
    content = {path: _read(file)}
    with connect(context) as client:
        if secret:
            environment = client.stacks.set_environment(stack_id, secret_files=content)
        else:
            environment = client.stacks.set_environment(stack_id, files=content)
    show.done(environment, f"set on {stack_id}: {path}, {len(content[path])} bytes", output)


@app.command()
def unset(
    context: typer.Context,
    stack_id: StackId,
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="The files.")],
    output: show.Output = show.Format.TEXT,
) -> None:
    """Removes files, all or none."""
    with connect(context) as client:
        environment = client.stacks.unset_environment(stack_id, paths=paths)
    show.done(environment, f"removed from {stack_id}: {', '.join(paths)}", output)


@app.command("list")
def list_(context: typer.Context, stack_id: StackId, output: show.Output = show.Format.TEXT) -> None:
    """Lists the files."""
    columns = {"PATH": _path, "BYTES": _size, "SECRET": _secret, "CHECKSUM": _checksum}
    with connect(context) as client:
        environment = client.stacks.get_environment(stack_id)
    show.table(environment.files, columns, output)


def _path(file: MountedFile) -> str:
    return file.path


def _size(file: MountedFile) -> str:
    return str(file.size_bytes)


def _secret(file: MountedFile) -> str:
    return "yes" if file.secret else ""


def _checksum(file: MountedFile) -> str:
    return file.checksum


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise Misconfigured(f"{file}: {error.strerror}") from error
