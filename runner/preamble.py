"""What the runner itself writes into a run's output before the container writes anything: the image's pull."""

from __future__ import annotations

from runner.masking import Masker
from runner.report import Report

_MAX_BYTES = 64 << 10


class Preamble:
    """Lines, masked and put into the spool as soon as there is a masker. Kept, since no engine's log has them."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._masker: Masker | None = None
        self._waiting: list[str] = []
        self._text = b""

    @property
    def text(self) -> bytes:
        """Masked."""
        return self._text

    def mask_with(self, masker: Masker) -> None:
        """Lends it the masker of the container's output, which has not begun."""
        self._masker = masker
        waiting, self._waiting = self._waiting, []
        for line in waiting:
            self.say(line)

    def say(self, line: str) -> None:
        if self._masker is None:
            self._waiting.append(line)
            return
        masked = self._masker.feed(f"{line}\n".encode()) + self._masker.finish()
        if len(self._text) + len(masked) > _MAX_BYTES:
            return
        taken = self._report.spool.append(masked)
        self._text += masked[:taken]
        self._report.change()
