"""`interlock profile`: the stored control planes."""

import json
import os
from typing import Annotated

import typer

from interlock import profiles
from interlock.cli import complete, show

app = typer.Typer(
    no_args_is_help=True, help="List, choose and delete stored profiles. `interlock login` makes them."
)

Name = Annotated[str, typer.Argument(help="The profile.", autocompletion=complete.profile_names)]


@app.command("list")
def list_(output: show.Output = show.Format.TEXT) -> None:
    """Lists the profiles, without their credentials; the one in use is marked with *."""
    stored = profiles.load(profiles.default_file(os.environ))
    in_use = os.environ.get("INTERLOCK_PROFILE") or stored.default
    rows = [
        {"name": name, "address": profile.address, "in_use": name == in_use}
        for name, profile in sorted(stored.by_name.items())
    ]
    if output is show.Format.JSON:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"{'*' if row['in_use'] else ' '} {row['name']}\t{row['address']}")


@app.command()
def use(name: Name) -> None:
    """Makes a profile the one that is used when none is named."""
    file = profiles.default_file(os.environ)
    stored = profiles.load(file)
    profiles.save(file, stored.with_profile(name, stored.get(name), make_default=True))
    show.note(f"profile {name} is in use")


@app.command()
def delete(name: Name) -> None:
    """Forgets a profile. Its API key stays in force until `interlock key revoke`."""
    file = profiles.default_file(os.environ)
    profiles.save(file, profiles.load(file).without(name))
    show.note(f"profile {name} is forgotten")
