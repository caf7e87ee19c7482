"""The command line. Its dependencies are the extra `cli`; without them it says so."""

import os
import sys


def main() -> None:
    """The entry point `interlock`."""
    try:
        import typer  # noqa: F401, PLC0415  # only to see whether it is there
    except ImportError:
        sys.exit("interlock: the command line is not installed; run: pip install 'interlock[cli]'")
    # Before gRPC is loaded: its own log lines are not for people, and its fork handlers not for `interlock dev`.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from interlock.cli.app import run  # noqa: PLC0415  # needs typer

    sys.exit(run(sys.argv[1:]))
