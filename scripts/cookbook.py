"""Writes docs/cookbook.md from policies/examples, or with --check says whether it is as they are.

Each example has its text, its test and a sample: `NAME.rego`, `NAME_test.rego`, `NAME.json`. What a policy says of its
sample is what OPA says.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.workbench.kinds import Kind
from scripts import opa
from scripts.progress import answering

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "policies" / "examples"
PAGE = ROOT / "docs" / "cookbook.md"
_RENEW = ".venv/bin/python -m scripts.cookbook"
_HEAD = f"""# Cookbook

Policies for real needs, each with its tests and a sample in [policies/examples](../policies/examples). Take one, change
its lists, and look at it with its sample and against what has happened on your stacks before it counts:
[how](policies.md). Every text here is the file that is tested; what it says of its sample is OPA's own answer. This page
is written by `{_RENEW}`.
"""
_FOOT = """
A pattern over a shell command is a guard rail, not a wall: `sh` has more ways to write `destroy` than a regular
expression has to find it. Where it must hold, allow by list as `read_only_commands` does, or give the stack
credentials that cannot do it.
"""


@dataclass(frozen=True)
class Recipe:
    kind: Kind
    path: Path
    title: str
    description: str
    rego: str
    verdict: dict[str, Any]


def main(arguments: list[str]) -> int:
    with answering():
        tool = opa.ensure()
    page = render([recipe(tool, path) for path in example_files()])
    if arguments != ["--check"]:
        PAGE.write_text(page)
    elif not PAGE.exists() or PAGE.read_text() != page:
        print(f"docs/cookbook.md is not as policies/examples: write it again with {_RENEW}")
        return 1
    return 0


def example_files() -> list[Path]:
    """Of all kinds, in the order of the page."""
    return [
        path
        for kind in Kind
        for path in sorted((EXAMPLES / kind.value).glob("*.rego"))
        if not path.stem.endswith("_test")
    ]


def recipe(tool: Path, path: Path) -> Recipe:
    """Raises CalledProcessError where OPA cannot read the file or its sample."""
    inspected = _json(tool, "inspect", "--annotations", "--format=json", str(path))
    about = next(
        entry["annotations"]
        for entry in inspected["annotations"]
        if entry["annotations"]["scope"] == "package"
    )
    kind = Kind(path.parent.name)
    evaluated = _json(
        tool, "eval", "--format=json", "--strict-builtin-errors", "--data", str(EXAMPLES.parent / "lib"),
        "--data", str(path), "--input", str(path.with_suffix(".json")),
        f'data.{path.stem} with data.interlock.sanitizer_key as "cookbook"',
    )  # fmt: skip
    said = evaluated["result"][0]["expressions"][0]["value"]
    verdict = {rule: value for rule, value in said.items() if rule in kind.rules}
    rego = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("# METADATA"))
    text = rego[rego.index("package ") :]
    return Recipe(kind, path, about["title"], about["description"].strip(), text.strip(), verdict)


def render(recipes: list[Recipe]) -> str:
    """The page. Pure."""
    return "".join([_HEAD, "\n", *_contents(recipes), *(_section(one) for one in recipes), _FOOT])


def _contents(recipes: list[Recipe]) -> Iterator[str]:
    yield "| kind | need |\n| --- | --- |\n"
    for one in recipes:
        yield f"| {one.kind.value} | [{one.title}](#{_anchor(one.title)}) |\n"


def _section(one: Recipe) -> str:
    place = f"policies/examples/{one.kind.value}"
    label = "" if one.kind is Kind.LOGIN else " --label 'autoattach:*'"
    name = one.path.stem
    says = json.dumps(one.verdict, indent=2, ensure_ascii=False, sort_keys=True)
    return f"""
## {one.title}

{one.description}

```sh
interlock policy create '{name.replace("_", " ")}' {place}/{name}.rego --kind {one.kind.value}{label}
```

```rego
{one.rego}
```

Of [its sample](../{place}/{name}.json) it says (its [tests](../{place}/{name}_test.rego)):

```json
{says}
```
"""


def _anchor(title: str) -> str:
    """As GitHub and most others make it."""
    kept = "".join(character for character in title.lower() if character.isalnum() or character in " -")
    return kept.replace(" ", "-")


def _json(tool: Path, *arguments: str) -> Any:
    ran = subprocess.run([tool, *arguments], capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
