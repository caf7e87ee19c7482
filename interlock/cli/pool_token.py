"""`interlock pool token`: what runners come in with."""

from typing import Annotated

import typer

from interlock.cli import complete, show
from interlock.cli.session import connect

app = typer.Typer(
    no_args_is_help=True, help="Make, list and revoke the tokens of a pool's runners. Needs an admin."
)

PoolId = Annotated[str, typer.Argument(metavar="POOL", help="The pool's id.", autocompletion=complete.pools)]


@app.command()
def create(
    context: typer.Context,
    pool_id: PoolId,
    name: Annotated[str, typer.Option(help="A name for people.")] = "",
    output: show.Output = show.Format.TEXT,
) -> None:
    """Makes a token and prints it. It is shown this once.

    Only the token goes to standard output:

    `interlock pool token create public > token`

    `INTERLOCK_ADDRESS=127.0.0.1:7420 INTERLOCK_POOL_TOKEN_FILE=token interlock runner`
    """
    with connect(context) as client:
        created = client.pools.create_token(pool_id, name=name)
    if output is show.Format.JSON:
        show.print_json({"pool_token": show.as_dict(created.pool_token), "credential": created.credential})
        return
    show.note(f"token {created.pool_token.id} of pool {pool_id}; keep it, it is not shown again:")
    print(created.credential)


@app.command("list")
def list_(context: typer.Context, pool_id: PoolId, output: show.Output = show.Format.TEXT) -> None:
    """Lists a pool's tokens, newest first, without their secrets."""
    columns = {
        "ID": lambda token: token.id,
        "NAME": lambda token: token.name,
        "CREATED": lambda token: show.when(token.create_time),
        "LAST USED": lambda token: show.when(token.last_use_time),
        "REVOKED": lambda token: show.when(token.revoke_time),
    }
    with connect(context) as client:
        show.table(client.pools.list_tokens(pool_id), columns, output)


@app.command()
def revoke(
    context: typer.Context,
    token_id: Annotated[str, typer.Argument(metavar="TOKEN", help="The token's id, ptk_….")],
    output: show.Output = show.Format.TEXT,
) -> None:
    """Revokes a token. Its runners are disconnected; what they perform goes on."""
    with connect(context) as client:
        token = client.pools.revoke_token(token_id)
    show.done(token, f"token {token.id} of pool {token.pool_id} is revoked", output)
