"""A container's output, byte for byte, out of the engine's `local` log with timestamps. Pure.

The frames of the log are not what the command wrote: a line of more than 16 KiB comes in pieces, and after
some of them its newline is missing. With timestamps it can be told: each frame is `TIMESTAMP SP bytes`, the pieces
of a line share their timestamp, and where it changes behind bytes that do not end in a newline, one was
dropped.
"""

from __future__ import annotations

_NEWLINE = b"\n"


class ReplayDecoder:
    """Feed it whole frames, in order."""

    def __init__(self) -> None:
        self._timestamp = b""
        self._ends_in_newline = True

    def feed(self, frame: bytes) -> bytes:
        timestamp, _, data = frame.partition(b" ")
        is_newline_missing = timestamp != self._timestamp and not self._ends_in_newline
        self._timestamp = timestamp
        if data:
            self._ends_in_newline = data.endswith(_NEWLINE)
        elif is_newline_missing:
            self._ends_in_newline = True
        return _NEWLINE + data if is_newline_missing else data
