"""`interlock policy new|schema`: what an author starts with."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from interlock.cli import show
from interlock.cli.choices import PolicyKindName
from interlock.errors import Misconfigured
from policies.workbench import library, starters
from policies.workbench.kinds import Kind

KindArgument = Annotated[
    PolicyKindName, typer.Argument(metavar="KIND", help="task, access, approval or login.")
]


def new(
    kind: KindArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; it is made.")] = Path(),
    name: Annotated[str, typer.Option(help="Of the files and the package; else the kind's name.")] = "",
) -> None:
    """Writes a policy, its test and a sample input to start from: NAME.rego, NAME_test.rego and NAME.json.

    `interlock policy new task policies --name no_taint`
    """
    try:
        texts = starters.starter(Kind(kind.value), name or kind.value)
    except starters.BadNameError as error:
        raise typer.BadParameter(str(error), param_hint="--name") from error
    _write(folder, texts)
    file = folder / f"{name or kind.value}.rego"
    for written in texts:
        print(folder / written)
    show.note(
        f"next: interlock policy test {folder}; interlock policy eval {file} --input {file.with_suffix('.json')}"
    )


def schema(
    kind: KindArgument,
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Write KIND.json there rather than print it.")
    ] = None,
) -> None:
    """Gives the JSON Schema of a kind's input, and on standard error the annotation that names it.

    `interlock policy schema task schemas`, then `opa check --schema schemas task.rego`.
    """
    text = library.schema(Kind(kind.value))
    if folder is None:
        sys.stdout.write(text)
    else:
        file = folder / f"{kind.value}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise Misconfigured(f"{file}: {error.strerror}") from error
        print(file)
    show.note("before the package of a policy of this kind:")
    for line in starters.annotation(Kind(kind.value)).splitlines():
        show.note(line)


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    """All or none: nobody's work is written over."""
    if there := [folder / name for name in texts if (folder / name).exists()]:
        raise Misconfigured(f"{there[0]} is there already; choose another --name or DIR")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise Misconfigured(f"{folder}: {error.strerror}") from error
