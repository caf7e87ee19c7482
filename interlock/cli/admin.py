"""`interlock admin`: backups, and whether what is stored is whole. For the machine that the server runs on."""

from pathlib import Path
from typing import Annotated

import typer

from interlock.cli import show
from interlock.cli.server import become

app = typer.Typer(
    no_args_is_help=True,
    help="Backs up, restores and verifies what a control plane keeps. Run it where and as whom the server runs.",
)

_RESULT = "Exit code 0: all is whole; 1: refused or failed; 3: something stored is damaged."


@app.command(epilog=_RESULT)
def backup(
    target: Annotated[Path, typer.Argument(help="The folder to make; it must not be there yet.")],
    master_key: Annotated[
        str,
        typer.Option(
            metavar="WORDS",
            help="Put the master key into it, too: say whoever-has-this-backup-can-read-every-secret.",
        ),
    ] = "",
    output: show.Output = show.Format.TEXT,
) -> None:
    """Copies database, output and archives as of one moment, while the server serves and runs go on.

    It reads the server's environment: INTERLOCK_DATA_DIR, INTERLOCK_SHARED_DIR, INTERLOCK_DATABASE_URL. A database on
    PostgreSQL needs pg_dump on PATH. The folder appears when all of it is on the disk.
    """
    words = ["--master-key", master_key] if master_key else []
    _become("backup", str(target.absolute()), *words, output=output)


@app.command(epilog=_RESULT)
def restore(
    backup_folder: Annotated[Path, typer.Argument(metavar="BACKUP", help="A folder that backup has made.")],
    output: show.Output = show.Format.TEXT,
) -> None:
    """Puts a backup into an empty data folder (and an empty database, on PostgreSQL), then start the server.

    It reads the server's environment, as for `interlock admin backup`. Where anything is there already, or anything of
    the backup is damaged, nothing is changed.
    """
    _become("restore", str(backup_folder.absolute()), output=output)


@app.command(epilog=_RESULT)
def verify(
    backup_folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[BACKUP]", help="A folder that backup has made; without it, the installation itself."
        ),
    ] = None,
    known_head: Annotated[
        str,
        typer.Option(
            metavar="SEQUENCE:HASH",
            help="A head of the audit log that an earlier verify printed: finds also that its end was cut off since.",
        ),
    ] = "",
    output: show.Output = show.Format.TEXT,
) -> None:
    """Reads every stored output and archive and the whole audit log, and compares them with what is on record.

    The server may serve meanwhile, or be stopped.
    """
    place = [str(backup_folder.absolute())] if backup_folder is not None else []
    head = ["--known-head", known_head] if known_head else []
    _become("verify", *place, *head, output=output)


def _become(command: str, *arguments: str, output: show.Format) -> None:
    become(
        "control_plane.keeping",
        command,
        *arguments,
        "--output",
        output.value,
        extra="server",
        needs="sqlalchemy",
    )
