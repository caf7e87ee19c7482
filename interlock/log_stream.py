"""Standard error for the logs of the servers: a line that cannot be written is lost, and nothing else."""

import contextlib
import sys
from typing import TextIO


class LogStream:
    """Where a full disk or a closed pipe stands behind standard error, a server goes on without its log."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()
