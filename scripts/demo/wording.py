"""The words of the demo, the same with colours and without."""

from collections.abc import Sequence

from scripts.demo.step import Outcome, Step


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
