"""An author's module as OPA parsed it: its package, its rules, the names that it uses."""

from __future__ import annotations

import asyncio
import base64
import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from policies.workbench.toolchain import Output, Toolchain

Node: TypeAlias = dict[str, Any]

AUTHOR_FILE = "policy.rego"


class RegoVersion(enum.Enum):
    """The dialect of a text."""

    V0 = "v0"
    V1 = "v1"


@dataclass(frozen=True)
class Position:
    """Line and column, in characters, both from 1."""

    line: int
    column: int

    @classmethod
    def of(cls, node: Node) -> Position:
        return cls(node["location"]["row"], node["location"]["col"])


@dataclass(frozen=True)
class Module:
    """A text that parses."""

    text: str
    version: RegoVersion
    tree: Node

    @property
    def package(self) -> tuple[str, ...]:
        """`("spacelift",)` for `package spacelift`."""
        return tuple(term["value"] for term in self.tree["package"]["path"][1:])

    @property
    def rules(self) -> list[Node]:
        return self.tree.get("rules") or []

    @property
    def imports(self) -> list[Node]:
        return self.tree.get("imports") or []

    def nodes(self) -> Iterator[Node]:
        """Every node of imports and rules, in the order of the tree."""
        yield from nodes([self.imports, self.rules])


def nodes(tree: Any) -> Iterator[Node]:
    """Every node below, without recursion: a hostile text may be nested as deep as it likes."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(value for key, value in reversed(node.items()) if key != "location")
        elif isinstance(node, list):
            waiting.extend(reversed(node))


def rule_name(rule: Node) -> str:
    """`deny` for `deny contains x`, `deny[x]` and `deny.x`."""
    name: str = rule["head"]["ref"][0]["value"]
    return name


def import_name(node: Node) -> str:
    """The name under which the module uses an import."""
    return str(node.get("alias") or node["path"]["value"][-1]["value"])


def source(node: Node) -> str:
    """The text from which the node was parsed."""
    return base64.b64decode(node["location"]["text"]).decode("utf-8")


def bound_names(module: Module) -> frozenset[str]:
    """Names that the module gives a meaning itself.

    Rules, imports, variables bound by unification (`session = input.session`) or iteration (`xs[session]`).
    What is declared by `:=`, `some`, `every` or as an argument is left out: OPA lets that win over an import.
    """
    bound = {rule_name(rule) for rule in module.rules} | {import_name(node) for node in module.imports}
    for node in module.nodes():
        if node.get("type") == "ref":
            bound.update(term["value"] for term in node["value"][1:] if term["type"] == "var")
        terms = node.get("terms")
        if isinstance(terms, list) and len(terms) == 3 and _operator(terms[0]) == "eq":
            left, right = terms[1:]
            if left["type"] == "var":
                bound.add(left["value"])
            elif right["type"] == "var":
                bound.add(right["value"])
    return frozenset(bound)


def used_names(module: Module) -> frozenset[str]:
    """Every variable that occurs."""
    return frozenset(node["value"] for node in module.nodes() if node.get("type") == "var")


def _operator(term: Node) -> str | None:
    if term.get("type") != "ref" or len(term["value"]) != 1:
        return None
    name: str = term["value"][0]["value"]
    return name


async def parse(tools: Toolchain, text: str, version: RegoVersion) -> Module | Output:
    """The module, or OPA's answer where the text is none.

    Raises:
        ToolLimitError: the text is hostile.
    """
    dialect = ["--v0-compatible"] if version is RegoVersion.V0 else []
    output = await tools.run(
        "parse", "--format=json", "--json-include=locations,-comments", *dialect, AUTHOR_FILE,
        files={AUTHOR_FILE: text},
    )  # fmt: skip
    tree = await asyncio.to_thread(output.report)
    if output.exit_code == 0 and isinstance(tree, dict) and "package" in tree:
        return Module(text, version, tree)
    return output
