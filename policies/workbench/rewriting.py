"""From an author's module to the one that is loaded: a package of its own, the short names, who it is.

Pure. No line is moved, so that OPA's positions in a rewritten v1 module are the author's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from policies.workbench.kinds import Kind
from policies.workbench.syntax import (
    Module,
    Node,
    Position,
    bound_names,
    import_name,
    nodes,
    rule_name,
    source,
    used_names,
)

# No author may define such a name: `rewrite` adds `interlock_identity`, by which the dispatcher knows a module.
RESERVED_PREFIX = "interlock_"

# "@" is in no policy's id, so these stand only where `rewrite` put them.
_POLICY = "@interlock:policy@"
_REVISION = "@interlock:revision@"
# As the last line: the same comment anywhere else is the author's.
_LINES = re.compile(r"^# interlock_lines (\{.*\})\n\Z", re.MULTILINE)

# v0 built-ins that v1 dropped, and what does the same. lib/v0.rego has the rest.
_RENAMED_BUILTINS = {"re_match": "regex.match", "net.cidr_overlap": "net.cidr_contains"} | {
    name: f"data.interlock.v0.{name}"
    for name in (
        "all",
        "any",
        "cast_array",
        "cast_boolean",
        "cast_null",
        "cast_object",
        "cast_set",
        "cast_string",
        "set_diff",
    )
}


@dataclass(frozen=True)
class _Edit:
    start: Position
    end: Position
    text: str


def with_aliases(module: Module, kind: Kind) -> str:
    """The author's text with the short names that it uses and does not define, after its last line."""
    return joined(module.text, alias_imports(module, kind))


def rewrite(module: Module, kind: Kind, lines: Mapping[int, int] | None = None) -> str:
    """A template of the module to load, for `render`.

    `lines` leads from the module's lines to the author's, where the two differ.
    """
    edits = [_package_edit(module), *_own_reference_edits(module)]
    identity = f'interlock_identity := {{"kind": "{kind.value}", "revision": {_REVISION}}}'
    tail = [*alias_imports(module, kind), identity]
    if lines is not None:
        tail.append(f"# interlock_lines {json.dumps(lines)}")
    return joined(_edited(module.text, edits), tail)


def as_v1_in_v0(module: Module) -> str:
    """A v1 text that is read as such among texts in v0. No line is moved: OPA takes an import beside the package."""
    if any([term["value"] for term in node["path"]["value"]] == ["rego", "v1"] for node in module.imports):
        return module.text
    end = _end_of_term(module.text, module.tree["package"]["path"][-1])
    return _edited(module.text, [_Edit(end, end, " import rego.v1")])


def render(template: str, policy_id: str, revision: int) -> str:
    return template.replace(_POLICY, policy_id).replace(_REVISION, str(revision))


def author_line(rendered: str, line: int) -> int:
    """The author's line for a line of a rendered module."""
    comment = _LINES.search(rendered)
    if comment is None:
        return line
    lines = {int(there): here for there, here in json.loads(comment[1]).items()}
    return max(((there, here) for there, here in lines.items() if there <= line), default=(0, line))[1]


def without_dropped_builtins(module: Module) -> str:
    """A v0 text with the calls that v1 does not know replaced, so that OPA's formatter can convert it."""
    own = bound_names(module)
    edits = [
        _Edit(Position.of(node["value"][0]), _end(node), _RENAMED_BUILTINS[path])
        for node in module.nodes()
        if node.get("type") == "ref"
        and (path := ".".join(str(term["value"]) for term in node["value"])) in _RENAMED_BUILTINS
        and path not in own
    ]
    return _edited(module.text, edits)


def without_rules(module: Module, lines: Collection[int]) -> tuple[str, frozenset[str]]:
    """The text with the rules blanked out that have one of these lines, and what those define. No line is moved."""
    blanked, names, text = set[tuple[int, int]](), set[str](), module.text.split("\n")
    for rule in module.rules:
        start = Position.of(rule)
        parts = source(rule).split("\n")
        if not any(start.line <= line < start.line + len(parts) for line in lines):
            continue
        names.add(rule_name(rule))
        for offset, part in enumerate(parts):
            place = (start.line - 1 + offset, start.column - 1 if offset == 0 else 0)
            if place in blanked:
                continue
            blanked.add(place)
            row, column = place
            text[row] = text[row][:column] + " " * len(part) + text[row][column + len(part) :]
    return "\n".join(text), frozenset(names)


def line_map(author: Module, converted: Module) -> dict[int, int]:
    """From the converted module's lines to the author's: rules and expressions pair up in their order."""
    lines: dict[int, int] = {}
    for there, here in zip(converted.rules, author.rules, strict=False):
        lines.setdefault(Position.of(there).line, Position.of(here).line)
        pairs = (_expressions(there), _expressions(here))
        if len(pairs[0]) == len(pairs[1]):
            for one, other in zip(*pairs, strict=True):
                lines.setdefault(one.line, other.line)
    return lines


def is_own_reference(module: Module, path: Sequence[Node]) -> bool:
    """A reference into the module's own package, spelt `data.PACKAGE…`."""
    package = module.package
    return (
        path[0]["value"] == "data"
        and len(path) > len(package)
        and package
        == tuple(term["value"] if term["type"] == "string" else None for term in path[1 : len(package) + 1])
    )


def alias_imports(module: Module, kind: Kind | None) -> list[str]:
    """Imports of the short names that the module uses and does not define."""
    wanted = used_names(module) - bound_names(module)
    imports = [f"import input.{name}" for name in sorted(kind.aliases & wanted)] if kind else []
    return [*imports, *(["import data.interlock.lib.sanitized"] if "sanitized" in wanted else [])]


def _package_edit(module: Module) -> _Edit:
    path = module.tree["package"]["path"]
    own = f'interlock.policies["{_POLICY}"]'
    return _Edit(Position.of(path[1]), _end_of_term(module.text, path[-1]), own)


def _own_reference_edits(module: Module) -> Iterable[_Edit]:
    whole_imports = {
        id(node["path"]): f" as {import_name(node)}" for node in module.imports if not node.get("alias")
    }
    depth = len(module.package)
    for node in module.nodes():
        if node.get("type") != "ref" or not is_own_reference(module, node["value"]):
            continue
        path = node["value"]
        alias = whole_imports.get(id(node), "") if len(path) == depth + 1 else ""
        own = f'data.interlock.policies["{_POLICY}"]{alias}'
        yield _Edit(Position.of(path[0]), _end_of_term(module.text, path[depth]), own)


def _expressions(rule: Node) -> list[Position]:
    return [Position.of(node) for node in nodes(rule) if "terms" in node and "location" in node]


def _end(node: Node) -> Position:
    start = Position.of(node)
    return Position(start.line, start.column + len(source(node)))


def _end_of_term(text: str, term: Node) -> Position:
    """Past the term of a reference, and past the bracket that closes it in `a["b"]`."""
    end = _end(term)
    if source(term)[0] not in ('"', "`"):
        return end
    line = text.split("\n")[end.line - 1]
    return Position(end.line, line.index("]", end.column - 1) + 2)


def _edited(text: str, edits: Iterable[_Edit]) -> str:
    lines = text.split("\n")
    for edit in sorted(edits, key=lambda edit: (edit.start.line, edit.start.column), reverse=True):
        line = lines[edit.start.line - 1]
        lines[edit.start.line - 1] = line[: edit.start.column - 1] + edit.text + line[edit.end.column - 1 :]
    return "\n".join(lines)


def joined(text: str, tail: Sequence[str]) -> str:
    """The text with more lines after its last one."""
    return "\n".join([text.removesuffix("\n"), *tail, ""])
