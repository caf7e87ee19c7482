"""Checks that what the docs show is true: snippets, `interlock` and `make` commands, links between files."""

import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import typer
from typer.core import TyperGroup

from interlock.cli.app import app
from scripts import opa
from scripts.progress import CACHE

ROOT = Path(__file__).resolve().parent.parent
SNIPPETS = CACHE / "snippets"
FENCE = re.compile(r"^ *```(?P<language>[a-z]+)[^\n]*\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
TARGET = re.compile(r"^([a-z0-9 -]+):", re.MULTILINE)


@dataclass(frozen=True)
class Snippet:
    place: str
    language: str
    text: str


class Param(Protocol):
    """An argument or option of a command, whose type typer keeps to itself."""

    opts: list[str]
    secondary_opts: list[str]


def main() -> int:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = [snippet for page in pages for snippet in snippets_in(page)]
    wrong = [complaint for page in pages for complaint in dead_links(page)]
    for snippet in found:
        check = CHECKS.get(snippet.language)
        wrong += [f"{snippet.place}: {complaint}" for complaint in (check(snippet.text) if check else ())]
    wrong += mistyped([snippet for snippet in found if snippet.language == "python"])
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"{len(found)} snippets in {len(pages)} pages, {len(wrong)} wrong")
    return 1 if wrong else 0


def snippets_in(page: Path) -> Iterator[Snippet]:
    text = page.read_text()
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        place = f"{named(page)}:{line}"
        yield Snippet(place, match["language"], textwrap.dedent(match["text"]))


def named(page: Path) -> str:
    return str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else page.name


def dead_links(page: Path) -> Iterator[str]:
    for target in LINK.findall(page.read_text()):
        if not (page.parent / target).exists():
            yield f"{named(page)}: the link to {target} leads nowhere"


def unparsable_json(text: str) -> Iterator[str]:
    try:
        json.loads(text)
    except ValueError as error:
        yield f"not JSON: {error}"


def unparsable_toml(text: str) -> Iterator[str]:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        yield f"not TOML: {error}"


def refused_rego(text: str) -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".rego") as file:
        file.write(text)
        file.flush()
        check = [str(opa.ensure()), "check", file.name, str(ROOT / "policies" / "lib" / "sanitized.rego")]
        judged = [
            subprocess.run([*check, *language], capture_output=True, text=True, check=False)
            for language in ((), ("--v0-compatible",))
        ]
    if all(verdict.returncode for verdict in judged):
        yield judged[0].stderr.strip()


def unknown_in_console(text: str) -> Iterator[str]:
    """A console shows output too: only what stands after a prompt was typed."""
    typed = (line.partition(" ")[2] for line in joined(text) if line.startswith(("$ ", "# ")))
    return unknown_in_shell("\n".join(typed))


def unknown_in_shell(text: str) -> Iterator[str]:
    for line in joined(text):
        words = first_command(line)
        if words[:1] == ["make"]:
            yield from unknown_target(words)
        elif words[:1] == ["interlock"]:
            yield from unknown_option(words)


def joined(text: str) -> list[str]:
    return text.replace("\\\n", " ").splitlines()


def first_command(line: str) -> list[str]:
    """The words of a line up to a pipe, redirection or the like, without leading assignments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(itertools.takewhile(lambda word: not set(word) <= set("();<>|&"), lexer))
    except ValueError:  # a quotation that goes on in the next line
        words = line.split()
    return list(itertools.dropwhile(lambda word: re.fullmatch(r"[A-Z_]+=.*", word), words))


def unknown_target(words: list[str]) -> Iterator[str]:
    targets = {name for names in TARGET.findall((ROOT / "Makefile").read_text()) for name in names.split()}
    for word in words[1:]:
        if "=" not in word and not word.startswith("-") and word not in targets:
            yield f"make has no target {word}"


def unknown_option(words: list[str]) -> Iterator[str]:
    """Follows the words down the command tree, then looks up each option."""
    own = words[1 : words.index("--")] if "--" in words else words[1:]
    command = typer.main.get_command(app)
    options = {"--help"}
    for name in (word for word in own if not word.startswith("-")):
        options |= names_of(command.params)
        if not isinstance(command, TyperGroup):
            break
        if name not in command.commands:
            yield f"`{' '.join(words)}`: there is no command {name}"
            return
        command = command.commands[name]
    options |= names_of(command.params)
    for option in (word.partition("=")[0] for word in own if word.startswith("--")):
        if option not in options:
            yield f"`{' '.join(words)}`: there is no option {option}"


def names_of(params: Iterable[Param]) -> set[str]:
    return {name for param in params for name in (*param.opts, *param.secondary_opts)}


def mistyped(snippets: list[Snippet]) -> list[str]:
    """What mypy says of the Python snippets; each is the body of an async function, so it may await."""
    shutil.rmtree(SNIPPETS, ignore_errors=True)
    SNIPPETS.mkdir(parents=True)
    places: dict[str, str] = {}
    for number, snippet in enumerate(snippets):
        path = SNIPPETS / f"snippet_{number}.py"
        path.write_text(f"async def snippet() -> None:\n{textwrap.indent(snippet.text, '    ')}")
        places[path.name] = snippet.place
    if not places:
        return []
    mypy = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    # A cache of its own: mypy may be checking the rest at the same time.
    command = [*mypy, "--cache-dir", str(SNIPPETS.with_name("snippets-mypy")), *places]
    said = subprocess.run(command, cwd=SNIPPETS, capture_output=True, text=True, check=False)
    errors = [line.partition(":") for line in said.stdout.splitlines() if ": error:" in line]
    return [f"{places.get(Path(path).name, path)}: {rest}" for path, _, rest in errors]


CHECKS: dict[str, Callable[[str], Iterator[str]]] = {
    "console": unknown_in_console,
    "json": unparsable_json,
    "rego": refused_rego,
    "sh": unknown_in_shell,
    "shell": unknown_in_shell,
    "toml": unparsable_toml,
}


if __name__ == "__main__":
    sys.exit(main())
