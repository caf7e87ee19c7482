"""A progress bar on a terminal; elsewhere nothing."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from interlock.upload import Report, unreported


@contextmanager
def bar(what: str) -> Iterator[Report]:
    if not sys.stderr.isatty():
        yield unreported
        return
    from rich.console import Console  # noqa: PLC0415  # slow to import, and only for terminals
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        task = drawn.add_task(what, total=None)

        def report(sent_bytes: int, total_bytes: int) -> None:
            drawn.update(task, completed=sent_bytes, total=total_bytes)

        yield report
