"""How the demo looks: with colours and a progress bar on a terminal, as plain lines elsewhere."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

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
        self.say(f"\n[{number}/{total}] {step.title}\n    {typed(step)}")

    def line(self, text: str) -> None:
        self.say(f"    | {readable(without_colours(text))}".rstrip())

    def verdict(self, outcome: Outcome) -> None:
        self.say(f"    {verdict(outcome)} ({outcome.took_s:.1f} s)")

    def summary(self, outcomes: Sequence[Outcome]) -> None:
        self.say("\n== Summary")
        for number, outcome in enumerate(outcomes, 1):
            mark = "ok" if outcome.is_as_expected else "FAILED"
            self.say(f"{number:>3}  {mark:<6}  {outcome.took_s:>5.1f} s  {outcome.step.title}")
        self.say(f"\n{total(outcomes)}")

    def say(self, sentence: str) -> None:
        print(sentence, flush=True)


def typed(step: Step) -> str:
    """The prompt and what is typed at it."""
    if step.interrupts:
        return f"{step.who}$ ^C   (in the terminal of: {step.command})"
    if step.continues:
        return f"{step.who}$ (goes on) {step.command}"
    if step.keeps:
        return f"{step.who}$ {step.keeps.upper()}=$({step.command})"
    return f"{step.who}$ {step.command}{' &' if step.until else ''}"


def verdict(outcome: Outcome) -> str:
    if outcome.is_as_expected:
        return f"✓ {outcome.step.expected}"
    return f"✗ expected: {outcome.step.expected}; but {'; '.join(outcome.problems)}"


def total(outcomes: Sequence[Outcome]) -> str:
    well = sum(outcome.is_as_expected for outcome in outcomes)
    took_s = sum(outcome.took_s for outcome in outcomes)
    if well == len(outcomes):
        return f"All {well} steps came out as said, in {took_s:.0f} s."
    return f"{len(outcomes) - well} of {len(outcomes)} steps did not come out as said."


def readable(text: str) -> str:
    """Columns instead of tabs, and nothing that would move the cursor."""
    return "".join(each for each in text.replace("\t", "  ") if each.isprintable() or each == "\x1b")
