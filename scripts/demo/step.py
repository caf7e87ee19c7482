"""What the demo does: steps with what somebody types, and what must come of it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

_TERMINAL_CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def nothing() -> Sequence[str]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command. `{NAME}` in its texts stands for what an earlier step learned under that name."""

    title: str
    command: str
    """As typed; with `continues` only shown."""
    expected: str
    """What must come of it, as a sentence. How that is checked follows."""
    who: str = "admin"
    exit_code: int = 0
    says: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()
    """What must not be in the output."""
    leaves: Callable[[], Sequence[str]] = nothing
    """Names what is there at its end and should not be."""
    environ: Mapping[str, str] = field(default_factory=dict)
    learns: str = ""
    """A regular expression; its named groups are what later steps may use."""
    keeps: str = ""
    """Standard output goes under this name, as with NAME=$(COMMAND), and is not shown."""
    until: str = ""
    """The command has said this when the step is over; it goes on beside the next ones, in its `terminal`."""
    terminal: str = ""
    """Where the command runs; without a name in the one that every step uses."""
    continues: str = ""
    """The terminal whose command this step goes on with, to its end."""
    interrupts: bool = False
    """With `continues`: Ctrl-C first."""

    def filled(self, notes: Mapping[str, str]) -> Self:
        """With what earlier steps learned. Raises KeyError for what they did not."""
        says = tuple(each.format_map(notes) for each in self.says)
        return replace(self, command=self.command.format_map(notes), says=says)


@dataclass(frozen=True)
class Chapter:
    title: str
    steps: Sequence[Step]


@dataclass(frozen=True)
class Outcome:
    step: Step
    problems: Sequence[str]
    took_s: float

    @property
    def is_as_expected(self) -> bool:
        return not self.problems


def problems(step: Step, output: str, exit_code: int | None) -> Sequence[str]:
    """How the outcome differs from what the step says; `exit_code` is None where the command goes on."""
    found = []
    if step.until and exit_code is not None:
        found.append(f"it ended with exit code {exit_code}")
    elif not step.until and exit_code != step.exit_code:
        found.append(f"the exit code is {exit_code}, not {step.exit_code}")
    text = without_colours(output)
    found += [f"it does not say {each!r}" for each in step.says if each not in text]
    found += [f"it shows {len(each)} characters that must be hidden" for each in step.hides if each in text]
    found += [f"{each} is left" for each in step.leaves()]
    return found


def without_colours(text: str) -> str:
    return _TERMINAL_CODE.sub("", text)
