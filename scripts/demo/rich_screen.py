"""The demo on a terminal."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from scripts.demo import wording
from scripts.demo.step import Outcome, Step


class RichScreen:
    """Colours, and at the bottom how far the demo is."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            transient=True,
            refresh_per_second=5,
        )
        self._bar = self._progress.add_task("", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def chapter(self, title: str) -> None:
        self._console.print()
        self._console.print(Rule(Text(title, "bold"), align="left", style="blue"))

    def begin(self, step: Step, number: int, total: int) -> None:
        self._progress.update(self._bar, completed=number - 1, total=total, description=step.title)
        prompt, _, command = wording.typed(step).partition(" ")
        self._console.print()
        self._console.print(Text(step.title, "bold"))
        self._console.print(Text.assemble("  ", (prompt, "green"), " ", (command, "cyan")), soft_wrap=True)

    def line(self, text: str) -> None:
        shown = Text.from_ansi(wording.readable(text))
        shown.style = "dim"
        self._console.print(Text("  │ ", "blue").append_text(shown), soft_wrap=True)

    def verdict(self, outcome: Outcome) -> None:
        style = "bold green" if outcome.is_as_expected else "bold red"
        text = Text.assemble("  ", (wording.verdict(outcome), style), (f" ({outcome.took_s:.1f} s)", "dim"))
        self._console.print(text)

    def summary(self, outcomes: Sequence[Outcome]) -> None:
        self._progress.stop()
        self.chapter("Summary")
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("", justify="right")
        table.add_column("")
        table.add_column("STEP")
        table.add_column("WHAT CAME OF IT")
        table.add_column("TOOK", justify="right")
        for number, outcome in enumerate(outcomes, 1):
            mark = Text("✓", "green") if outcome.is_as_expected else Text("✗", "bold red")
            came = outcome.step.expected if outcome.is_as_expected else "; ".join(outcome.problems)
            took = f"{outcome.took_s:.1f} s"
            table.add_row(str(number), mark, Text(outcome.step.title), Text(came), took)
        self._console.print(table)
        well = all(outcome.is_as_expected for outcome in outcomes)
        self._console.print()
        self._console.print(Text(wording.total(outcomes), "bold green" if well else "bold red"))

    def say(self, sentence: str) -> None:
        self._console.print(Text(sentence))
