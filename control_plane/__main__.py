"""`python -m control_plane`: reads the configuration, serves until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import TextIO, cast

import structlog

from control_plane import config, listener, server
from control_plane.keys import MasterKeyError
from control_plane.storage.shape import CannotMigrateError
from interlock.log_stream import LogStream


def main() -> int:
    """The exit code: 0 after a clean stop, 1 where the server could not start or broke."""
    try:
        settings = config.read(os.environ, is_terminal=sys.stderr.isatty())
        configure_logs(as_json=settings.json_logs)
        asyncio.run(server.serve(settings))
    except (
        config.ConfigError,
        MasterKeyError,
        CannotMigrateError,
        listener.CannotStart,
        server.PartBroke,
    ) as error:
        print(f"interlock server: {error}", file=sys.stderr)
        return 1
    return 0


def configure_logs(*, as_json: bool) -> None:
    """Events on standard error, one line each."""
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks if as_json else structlog.dev.set_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", LogStream())),
        cache_logger_on_first_use=True,
    )


if __name__ == "__main__":
    sys.exit(main())
