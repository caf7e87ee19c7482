"""Points in time as people write them: 2026-05-01T08:00Z, or how long ago: 2h."""

from datetime import UTC, datetime

import typer

from interlock.cli import durations


def parse(text: str) -> datetime | None:
    """None where nothing was given. A time without a zone is the machine's own."""
    if not text:
        return None
    if text[0].isdigit() and text[-1].isalpha() and text[:-1].isdigit():
        return datetime.now(UTC) - durations.parse(text)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}: write a time such as 2026-05-01T08:00Z, or how long ago: 2h"
        ) from None
