"""What a long command says of its progress, on standard error: a line that moves on a terminal, else one now and then."""

from __future__ import annotations

import sys
import threading
import time
from typing import Final, TextIO

_REDRAW_S: Final = 0.2
_REPEAT_S: Final = 10.0


class Progress:
    """Steps one after the other. May be told from any thread."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._lock = threading.Lock()
        self._what = ""
        self._items = self._bytes = 0
        self._total_items: int | None = None
        self._shown_at = 0.0

    def begin(self, what: str, total_items: int | None = None) -> None:
        """The next step. `total_items`: how many things it has, where that is known."""
        with self._lock:
            self._what, self._total_items = what, total_items
            self._items = self._bytes = 0
            self._shown_at = time.monotonic()
            if self._is_terminal:
                self._show("\r\033[K", "")

    def add(self, size_bytes: int, items: int = 1) -> None:
        """So much more of this step is done."""
        with self._lock:
            self._items += items
            self._bytes += size_bytes
            now = time.monotonic()
            if now - self._shown_at >= (_REDRAW_S if self._is_terminal else _REPEAT_S):
                self._shown_at = now
                self._show("\r\033[K" if self._is_terminal else "", "" if self._is_terminal else "\n")

    def end(self) -> None:
        """This step is over."""
        with self._lock:
            self._show("\r\033[K" if self._is_terminal else "", "\n")

    def _show(self, before: str, after: str) -> None:
        counted = f"{self._items}" if self._total_items is None else f"{self._items} of {self._total_items}"
        size = f", {self._bytes / 2**20:.1f} MiB" if self._bytes else ""
        self._stream.write(f"{before}{self._what}: {counted}{size}{after}")
        self._stream.flush()
