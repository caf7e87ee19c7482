"""The runner's log: lines for people on a terminal, else one JSON object a line, on stderr."""

from __future__ import annotations

import sys
from typing import TextIO, cast

import structlog

from interlock.log_stream import LogStream


def configure() -> None:
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", LogStream())),
        cache_logger_on_first_use=True,
    )
