"""Secrets come in by a hidden prompt or by standard input, never as arguments."""

import getpass
import sys

from interlock.errors import Misconfigured


def read_secret(what: str) -> str:
    """Asks on a terminal; otherwise all of standard input, without the newline at its end."""
    if sys.stdin.isatty():
        try:
            secret = getpass.getpass(f"{what}: ")
        except EOFError:
            secret = ""
    else:
        secret = sys.stdin.read().removesuffix("\n")
    if not secret:
        raise Misconfigured(f"{what}: nothing was given")
    return secret
