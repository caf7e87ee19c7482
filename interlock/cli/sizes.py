"""Sizes as people write them: 512M, 4G."""

import re

import typer

UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


def parse(text: str) -> int:
    """Bytes. Refuses anything else as wrong usage."""
    match = re.fullmatch(r"([0-9]{1,15})([KMG]?)", text.upper())
    if match is None:
        raise typer.BadParameter(f"{text!r}: write a number and a unit, such as 512M or 4G")
    return int(match[1]) * UNITS[match[2]]
