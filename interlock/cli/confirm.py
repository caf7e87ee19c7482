"""Asking before something is deleted."""

import sys
from typing import Annotated

import typer

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def require(deed: str, *, yes: bool) -> None:
    """Goes on where the deed was confirmed; without a terminal only --yes does that."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"to {deed} without a terminal, add --yes")
    typer.confirm(f"Really {deed}?", abort=True, err=True)
