"""`interlock login` and `interlock whoami`."""

import os
import sys
from typing import Annotated

import typer

from interlock import profiles, sync
from interlock.cli import show
from interlock.cli.secret_input import read_secret
from interlock.cli.session import PATIENCE, connect, session
from interlock.errors import Misconfigured
from interlock.profiles import Profile
from interlock.types import Caller


def login(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="The control plane, HOST:PORT or unix:///PATH.")] = "",
    ca_file: Annotated[str, typer.Option(help="The authority that signed its certificate (PEM).")] = "",
    certificate_file: Annotated[
        str, typer.Option(help="Your own certificate, where it wants one (PEM).")
    ] = "",
    key_file: Annotated[str, typer.Option(help="The certificate's key (PEM).")] = "",
    server_name: Annotated[str, typer.Option(help="The name in its certificate, if not the address.")] = "",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Send credentials in plaintext, also to another machine.")
    ] = False,
    keep_default: Annotated[
        bool, typer.Option("--keep-default", help="Store the profile, but go on using the one in use now.")
    ] = False,
) -> None:
    """Stores an address and an API key as a profile, after trying them.

    Asks for the key on a terminal; otherwise reads it from INTERLOCK_API_KEY or standard input. The profile is
    called `default` unless --profile names it:

    `interlock --profile prod login interlock.example.com:443`
    """
    options = session(context)
    address = address or options.address
    if not address:
        raise Misconfigured("no address: interlock login HOST:PORT")
    profile = Profile(
        address=address,
        api_key=os.environ.get("INTERLOCK_API_KEY") or read_secret("API key"),
        ca_file=_absolute(ca_file),
        certificate_file=_absolute(certificate_file),
        key_file=_absolute(key_file),
        server_name=server_name,
        insecure=insecure,
    )
    with sync.connect(
        address, api_key=profile.api_key, tls=profile.tls(), insecure=insecure, retry=PATIENCE
    ) as client:
        caller = client.identity.get_caller()
    name = options.profile_name or "default"
    file = profiles.default_file(os.environ)
    profiles.save(file, profiles.load(file).with_profile(name, profile, make_default=not keep_default))
    show.note(f"you are {caller.login} at {address}; stored as profile {name} in {file}")


def whoami(context: typer.Context, output: show.Output = show.Format.TEXT) -> None:
    """Shows whom the control plane takes you for."""
    with connect(context) as client:
        caller = client.identity.get_caller()
        fields = {
            "login": caller.login,
            "name": caller.name,
            "key": caller.id,
            "teams": ", ".join(caller.teams),
            "kind": _kind(caller),
            "control plane": client.address,
        }
    show.record(caller, fields, output)
    if not caller.admin and output is show.Format.TEXT and sys.stdout.isatty():
        show.note("what you may read and trigger is up to the access policies")


def _kind(caller: Caller) -> str:
    words = [word for word, holds in (("admin", caller.admin), ("machine", caller.machine)) if holds]
    return ", ".join(words) or "user"


def _absolute(path: str) -> str:
    return os.path.abspath(path) if path else ""  # noqa: PTH100  # as given: a link may be renewed
