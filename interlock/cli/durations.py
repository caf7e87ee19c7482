"""Durations as people write them: 30s, 15m, 12h, 90d."""

import re
from datetime import timedelta

import typer

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def text(duration: timedelta) -> str:
    """The largest unit that fits, as `parse` reads it: 90m, 12h; rounded to a second."""
    seconds = round(duration.total_seconds())
    for letter, unit in reversed(UNITS.items()):
        in_unit = round(timedelta(**{unit: 1}).total_seconds())
        if seconds and seconds % in_unit == 0:
            return f"{seconds // in_unit}{letter}"
    return f"{seconds}s"


def about(duration: timedelta) -> str:
    """To be read: seconds below two minutes, minutes below two hours, then hours."""
    seconds = round(duration.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    return f"{round(seconds / 60)} min" if seconds < 7200 else f"{round(seconds / 3600)} h"


def parse(text: str) -> timedelta:
    """Refuses anything else as wrong usage."""
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if match is None or not int(match[1]):
        raise typer.BadParameter(f"{text!r}: write a number and a unit, such as 30s, 15m, 12h or 90d")
    return timedelta(**{UNITS[match[2]]: int(match[1])})
