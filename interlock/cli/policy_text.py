"""A policy's text as commands are given it: a file, or - for standard input."""

import sys
from pathlib import Path

from interlock.errors import Misconfigured


def read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise Misconfigured(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{file}: not UTF-8 at byte {error.start}") from error


def name(file: str) -> str:
    """What findings call it."""
    return "stdin.rego" if file == "-" else file[-255:]
