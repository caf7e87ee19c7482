"""How the demo looks: with colours and a progress bar on a terminal, as plain lines elsewhere."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from scripts.demo import wording
from scripts.demo.step import Outcome, Step, without_colours


class Screen(Protocol):
    """Shows the demo as it goes."""

    def chapter(self, title: str) -> None: ...

    def begin(self, step: Step, number: int, total: int) -> None: ...

    def line(self, text: str) -> None:
        """One line of a command's output."""

    def verdict(self, outcome: Outcome) -> None: ...

    def summary(self, outcomes: Sequence[Outcome]) -> None: ...

    def say(self, sentence: str) -> None: ...


@contextmanager
def opened() -> Iterator[Screen]:
    if not sys.stdout.isatty():
        yield PlainScreen()
        return
    from scripts.demo.rich_screen import RichScreen  # noqa: PLC0415  # rich is for terminals only

    with RichScreen() as screen:
        yield screen


class PlainScreen:
    """Lines without colours, each written when it is known."""

    def chapter(self, title: str) -> None:
        self.say(f"\n== {title}")

    def begin(self, step: Step, number: int, total: int) -> None:
        self.say(f"\n[{number}/{total}] {step.title}\n    {wording.typed(step)}")

    def line(self, text: str) -> None:
        self.say(f"    | {wording.readable(without_colours(text))}".rstrip())

    def verdict(self, outcome: Outcome) -> None:
        self.say(f"    {wording.verdict(outcome)} ({outcome.took_s:.1f} s)")

    def summary(self, outcomes: Sequence[Outcome]) -> None:
        self.say("\n== Summary")
        for number, outcome in enumerate(outcomes, 1):
            mark = "ok" if outcome.is_as_expected else "FAILED"
            self.say(f"{number:>3}  {mark:<6}  {outcome.took_s:>5.1f} s  {outcome.step.title}")
        self.say(f"\n{wording.total(outcomes)}")

    def say(self, sentence: str) -> None:
        print(sentence, flush=True)
