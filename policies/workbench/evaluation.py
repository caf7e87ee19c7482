"""One policy on one input, explained at the author's lines. Nothing of it is what decides: that is the serving OPA."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from policies.workbench import library, rewriting, tracing
from policies.workbench.kinds import Kind
from policies.workbench.prints import Print, marked, printed
from policies.workbench.syntax import AUTHOR_FILE, Module, RegoVersion
from policies.workbench.toolchain import Output, Toolchain, ToolLimitError
from policies.workbench.tracing import Clause

PLAIN: Final = ("--format=json", "--strict-builtin-errors")
# Without the last two, OPA passes over rules of which it knows beforehand that they do not hold.
EXPLAINED: Final = (*PLAIN, "--explain=full", "--disable-indexing", "--disable-early-exit")
# The installation's own key stays there: hashes of `sanitized` differ from those that decisions have.
DESK_KEY: Final = "interlock-workbench"


@dataclass(frozen=True)
class Evaluation:
    """What a policy's rules came to; an undefined one is left out."""

    values: Mapping[str, Any]
    prints: Sequence[Print]
    clauses: Sequence[Clause]
    # Why it could not be evaluated, which refuses; empty where it could.
    failure: str = ""
    # Of the failure, 0 where it is not known.
    line: int = 0
    # The trace was too long to be read.
    is_unexplained: bool = False


async def evaluate(tools: Toolchain, module: Module, kind: Kind, document: Any) -> Evaluation:
    """The author's own text, in its own dialect, with the short names and `sanitized`.

    Raises:
        ToolLimitError: it takes too long or too much memory.
    """
    try:
        output = await _evaluated(tools, module, kind, document, explain=True)
        is_unexplained = False
    except ToolLimitError:
        output = await _evaluated(tools, module, kind, document, explain=False)
        is_unexplained = True
    said = await asyncio.to_thread(report, output)
    rules = kind.rules | kind.further_rules
    failure, line = _failure(said, output)
    return Evaluation(
        _values(said), printed(output.text),
        await asyncio.to_thread(tracing.clauses, said.get("explanation") or [], rules, document),
        failure, line, is_unexplained,
    )  # fmt: skip


async def _evaluated(tools: Toolchain, module: Module, kind: Kind, document: Any, *, explain: bool) -> Output:
    package = "".join(f"[{json.dumps(part)}]" for part in module.package)
    rules = sorted(kind.rules | kind.further_rules)
    query = f"{{rule: value | rule := {json.dumps(rules)}[_]; value := data{package}[rule]}}"
    marks = await asyncio.to_thread(marked, module)
    text = rewriting.joined(marks, rewriting.alias_imports(module, kind))
    files = {
        AUTHOR_FILE: text,
        "input.json": json.dumps(document),
        "key.json": json.dumps({"interlock": {"sanitizer_key": DESK_KEY}}),
        **library.helpers(),
    }
    data = [argument for name in files if name != "input.json" for argument in ("--data", name)]
    dialect = ["--v0-compatible"] if module.version is RegoVersion.V0 else []
    how = EXPLAINED if explain else PLAIN
    return await tools.run(
        "eval", *how, *dialect, *data, "--input=input.json", query,
        files=files,
    )  # fmt: skip


def report(output: Output) -> dict[str, Any]:
    """The report is the last object that begins a line: what is printed comes before it."""
    text = f"\n{output.text}"
    try:
        found = json.loads(text[text.rfind("\n{\n") + 1 :])
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _values(report: Mapping[str, Any]) -> dict[str, Any]:
    result = report.get("result") or [{"expressions": [{"value": {}}]}]
    return dict(result[0]["expressions"][0]["value"])


def _failure(report: Mapping[str, Any], output: Output) -> tuple[str, int]:
    if errors := report.get("errors"):
        place = errors[0].get("location") or {}
        line = place.get("row", 0) if place.get("file") == AUTHOR_FILE else 0
        return f"{errors[0].get('code', 'error')}: {errors[0]['message']}", line
    if output.exit_code or not report:
        return output.text.strip().rpartition("\n")[2] or "OPA gave no reason", 0
    return "", 0
