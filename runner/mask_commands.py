"""Secrets that a hook or command makes known while it runs, by writing a line `::add-mask::VALUE`.

The syntax is that of GitHub Actions: the line starts with `::add-mask::`, and %25, %0D and %0A in the value
stand for `%`, carriage return and newline. The value is never shown: the line goes on as `::add-mask::***`,
and the secret comes out before any byte that follows it. Pure and incremental: however the output is cut, the
result is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

MASK_COMMAND = b"::add-mask::"
MASKED_LINE = MASK_COMMAND + b"***"
# The masker takes no longer secrets; escapes make a line three times as long at most.
_MAX_VALUE_BYTES = 3 * 64 * 1024


@dataclass(frozen=True, repr=False)
class SecretAdded:
    """Mask `value` from here on; None for one that was too long to keep and was dropped from the output."""

    value: bytes | None

    def __repr__(self) -> str:
        return "SecretAdded(***)"


class MaskCommandScanner:
    """Finds the lines in a run's output. Feed it what `PhaseSplitter` gives, before the masker sees it."""

    def __init__(self) -> None:
        self._held = b""
        self._at_line_start = True
        self._overlong = False

    def feed(self, data: bytes) -> list[bytes | SecretAdded]:
        """The next bytes; gives what is certain, in order, without empty pieces."""
        data = self._held + data if self._held else data
        pieces: list[bytes | SecretAdded] = []
        position = 0
        while (start := self._next_command(data, position)) < len(data):
            end = data.find(b"\n", start)
            if end < 0:
                self._hold_line(pieces, data, position, start)
                return pieces
            self._append(pieces, data[position:start])
            self._append_secret(pieces, data[start:end].removesuffix(b"\r"))
            self._at_line_start = False
            position = end
        held_from = self._unfinished_start(data, position)
        self._append(pieces, data[position:held_from] if position or held_from < len(data) else data)
        self._held = data[held_from:]
        return pieces

    def end_line(self) -> list[bytes | SecretAdded]:
        """A step has ended, so what comes next begins a line, and what was held back is all there is."""
        pieces: list[bytes | SecretAdded] = []
        held, self._held = self._held, b""
        if held.startswith(MASK_COMMAND):
            self._append_secret(pieces, held)
        else:
            self._append(pieces, held)
        self._at_line_start = True
        return pieces

    def _next_command(self, data: bytes, position: int) -> int:
        """Where the next line begins that is a mask command, whole or cut off after `::add-mask::`."""
        if position == 0 and self._at_line_start and data.startswith(MASK_COMMAND):
            return 0
        found = data.find(b"\n" + MASK_COMMAND, position)
        return found + 1 if found >= 0 else len(data)

    def _hold_line(self, pieces: list[bytes | SecretAdded], data: bytes, position: int, start: int) -> None:
        self._append(pieces, data[position:start])
        self._held = data[start:]
        self._at_line_start = True
        if len(self._held) > len(MASK_COMMAND) + _MAX_VALUE_BYTES:
            self._overlong = True
            self._held = self._held[: len(MASK_COMMAND)]

    def _append_secret(self, pieces: list[bytes | SecretAdded], line: bytes) -> None:
        value = line.removeprefix(MASK_COMMAND)
        pieces.append(SecretAdded(None if self._overlong else _unescape(value)))
        pieces.append(MASKED_LINE)
        self._overlong = False

    def _unfinished_start(self, data: bytes, position: int) -> int:
        """Where a last line begins that may yet become a mask command; the data's length if there is none."""
        line_start = data.rfind(b"\n", max(position, len(data) - len(MASK_COMMAND))) + 1
        if not line_start and not (position == 0 and self._at_line_start):
            return len(data)
        return line_start if MASK_COMMAND.startswith(data[line_start:]) else len(data)

    def _append(self, pieces: list[bytes | SecretAdded], data: bytes) -> None:
        if data:
            pieces.append(data)
            self._at_line_start = data.endswith(b"\n")


def _unescape(value: bytes) -> bytes:
    return value.replace(b"%0D", b"\r").replace(b"%0A", b"\n").replace(b"%25", b"%")
