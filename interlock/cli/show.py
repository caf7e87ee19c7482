"""What commands print: tables on a terminal, tab-separated lines in a pipe, JSON when asked for."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

M = TypeVar("M", bound=Message)


class Format(StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"


Output = Annotated[
    Format,
    typer.Option("--output", "-o", help="json prints the API's own messages, complete."),
]


def table(messages: Iterable[M], columns: Mapping[str, Callable[[M], str]], output: Format) -> None:
    """One line for each message; in a pipe without a heading, for cut and awk."""
    listed = list(messages)
    if output is Format.JSON:
        print_json([as_dict(message) for message in listed])
        return
    rows = [[visible(cell(message)) for cell in columns.values()] for message in listed]
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(row))
    elif rows:
        _print_table(list(columns), rows)
    else:
        note("nothing there")


def record(message: Message, fields: Mapping[str, str], output: Format) -> None:
    """One thing, a line for each field that has a value."""
    if output is Format.JSON:
        print_json(as_dict(message))
        return
    filled = {name: visible(value) for name, value in fields.items() if value}
    if sys.stdout.isatty():
        width = max(map(len, filled), default=0)
        for name, value in filled.items():
            print(f"{name:<{width}}  {value}")
    else:
        for name, value in filled.items():
            print(f"{name}\t{value}")


def done(message: Message, sentence: str, output: Format) -> None:
    """A change that was made: the thing as it is now, or a sentence about it."""
    if output is Format.JSON:
        print_json(as_dict(message))
    else:
        note(sentence)


def note(sentence: str) -> None:
    """For the person at the terminal, never for the next program: standard error."""
    print(visible(sentence), file=sys.stderr, flush=True)


def print_json(content: object) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False))


def as_dict(message: Message) -> dict[str, Any]:
    """As in the API's documentation, with empty fields too, so that scripts can count on them."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def when(stamp: Timestamp) -> str:
    """RFC 3339 in UTC, to the second; empty where it was never set."""
    if not stamp.seconds and not stamp.nanos:
        return ""
    return stamp.ToDatetime(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def visible(text: str) -> str:
    """Without what would move the cursor: names and commands come from other people."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "backslashreplace").decode()
        for each in text
    )


def _print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Ids and times stay whole, to be copied: what does not fit is cut off at the right."""
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415  # slow to import, and only for terminals
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    widths = [max(map(cell_len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        cells = (set_cell_size(cell, width) for cell, width in zip(row, widths, strict=True))
        line = Text("  ".join(cells).rstrip(), style="bold" if row is titles else "")
        console.print(line, no_wrap=True, overflow="ellipsis", crop=True)
