"""Durations as people write them: 30s, 15m, 12h, 90d."""

import re
from datetime import timedelta

import typer

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse(text: str) -> timedelta:
    """Refuses anything else as wrong usage."""
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if match is None or not int(match[1]):
        raise typer.BadParameter(f"{text!r}: write a number and a unit, such as 30s, 15m, 12h or 90d")
    return timedelta(**{UNITS[match[2]]: int(match[1])})
