"""`interlock key`: API keys."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from interlock.cli import durations, show
from interlock.cli.session import connect
from interlock.types import ApiKey

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys. Needs an admin.")


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A name for people.")],
    login: Annotated[
        str, typer.Option(help="What policies see as session.login. Made from the name if not given.")
    ] = "",
    team: Annotated[
        list[str] | None, typer.Option(help="A team that policies see in session.teams. May be repeated.")
    ] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="May do everything that access policies guard.")
    ] = False,
    machine: Annotated[bool, typer.Option("--machine", help="For a program, not a person.")] = False,
    expires_in: Annotated[
        str,
        typer.Option(metavar="DURATION", help="How long it lives, e.g. 12h or 90d. For ever if not given."),
    ] = "",
    output: show.Output = show.Format.TEXT,
) -> None:
    """Makes an API key and prints it. It is shown this once.

    Only the key goes to standard output: `KEY=$(interlock key create ci --machine --expires-in 90d)`
    """
    expire_time = datetime.now(UTC) + durations.parse(expires_in) if expires_in else None
    with connect(context) as client:
        created = client.identity.create_key(
            name, login=login, teams=team or (), admin=admin, machine=machine, expire_time=expire_time
        )
    if output is show.Format.JSON:
        show.print_json({"api_key": show.as_dict(created.api_key), "credential": created.credential})
        return
    show.note(f"key {created.api_key.id} for {created.api_key.login}; keep it, it is not shown again:")
    print(created.credential)


@app.command("list")
def list_(
    context: typer.Context,
    show_ended: Annotated[bool, typer.Option("--all", help="Revoked and expired ones too.")] = False,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Lists API keys, newest first, without their secrets."""
    columns = {
        "ID": lambda key: key.id,
        "LOGIN": lambda key: key.login,
        "NAME": lambda key: key.name,
        "KIND": _kind,
        "TEAMS": lambda key: ",".join(key.teams),
        "EXPIRES": lambda key: show.when(key.expire_time),
        "LAST USED": lambda key: show.when(key.last_use_time),
        "REVOKED": lambda key: show.when(key.revoke_time),
    }
    with connect(context) as client:
        show.table(client.identity.list_keys(show_ended=show_ended), columns, output)


@app.command()
def revoke(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="The key's id, key_….")],
    output: show.Output = show.Format.TEXT,
) -> None:
    """Revokes an API key. What was exchanged for it stops working at once."""
    with connect(context) as client:
        key = client.identity.revoke_key(key_id)
    show.done(key, f"key {key.id} ({key.login}) is revoked", output)


def _kind(key: ApiKey) -> str:
    words = [word for word, holds in (("admin", key.admin), ("machine", key.machine)) if holds]
    return ",".join(words) or "user"
