"""What a policy prints about an input: evaluated once more, apart from the OPA that decides, which prints to nobody."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from policies.workbench import library, rewriting
from policies.workbench.compiler import CompiledPolicy
from policies.workbench.syntax import Module, Position, RegoVersion, parse
from policies.workbench.toolchain import Toolchain

_POLICY: Final = "printing"
# Stands before each print, so that its line is known: OPA does not say.
_MARK: Final = re.compile(r"^@interlock:(\d+)@ ?(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Print:
    """One print; `line` is the author's."""

    line: int
    text: str


async def prints(
    tools: Toolchain, policy: CompiledPolicy, document: Mapping[str, Any], *, sanitizer_key: str
) -> list[Print]:
    """In the order in which they are printed; of a text over several lines, the first.

    Raises:
        ToolLimitError: it takes too long or too much memory.
    """
    if "print" not in policy.text:
        return []
    rendered = rewriting.render(policy.module, _POLICY, 1)
    module = await parse(tools, rendered, RegoVersion.V1)
    if not isinstance(module, Module):
        return []
    rules = sorted(policy.kind.rules | policy.kind.further_rules)
    query = f'[value | some rule in {json.dumps(rules)}; value := data.interlock.policies["{_POLICY}"][rule]]'
    files = {
        "printing.rego": await asyncio.to_thread(marked, module),
        "input.json": json.dumps(document),
        "data.json": json.dumps({"interlock": {"sanitizer_key": sanitizer_key}}),
        **library.helpers(),
    }
    data = [argument for name in files if name != "input.json" for argument in ("--data", name)]
    output = await tools.run(
        "eval", "--format=discard", "--strict-builtin-errors", *data, "--input=input.json", query, files=files
    )
    return [Print(rewriting.author_line(rendered, each.line), each.text) for each in printed(output.text)]


def printed(output: str) -> list[Print]:
    """The prints of a module that was marked, in what OPA wrote."""
    return [Print(int(found[1]), found[2]) for found in _MARK.finditer(output)]


def marked(module: Module) -> str:
    """The module's text, whose prints say their line."""
    lines = module.text.split("\n")
    places = [
        Position.of(node["terms"][1])
        for node in module.nodes()
        if isinstance(terms := node.get("terms"), list)
        and len(terms) > 1
        and terms[0].get("type") == "ref"
        and [term["value"] for term in terms[0]["value"]] == ["print"]
    ]
    for place in sorted(places, key=lambda each: (each.line, each.column), reverse=True):
        line = lines[place.line - 1]
        mark = f'"@interlock:{place.line}@", '
        lines[place.line - 1] = line[: place.column - 1] + mark + line[place.column - 1 :]
    return "\n".join(lines)
