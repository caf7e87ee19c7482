"""An evaluation in words: which line made which message, and which line stopped a rule that did not hold. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policies.workbench.kinds import SPACE_ADMIN_RULE, SPACE_RULES, Kind
from policies.workbench.syntax import Module, Position, source
from policies.workbench.tracing import Clause, Line

_HELD, _STOPPED = "✓", "✗"


def outcome(kind: Kind, values: Mapping[str, Any]) -> str:
    """What this policy alone says, in one phrase."""
    match kind:
        case Kind.TASK:
            return "denies" if values.get("deny") else "does not deny"
        case Kind.ACCESS:
            return _of_access(values)
        case Kind.APPROVAL:
            return (
                "rejects" if values.get("reject") else "approves" if values.get("approve") else "is undecided"
            )
        case Kind.LOGIN:
            return _of_login(values)


def _of_access(values: Mapping[str, Any]) -> str:
    if values.get("deny"):
        return "hides the stack"
    if values.get("write"):
        return "lets read, and denies writing" if values.get("deny_write") else "lets write"
    said = "lets read" if values.get("read") else "gives no access"
    return f"{said}, and denies writing" if values.get("deny_write") else said


def _of_login(values: Mapping[str, Any]) -> str:
    if values.get("deny"):
        return "refuses"
    is_admin = values.get("admin") or "root" in values.get(SPACE_ADMIN_RULE, [])
    if is_admin and not values.get("deny_admin"):
        return "lets in as an admin"
    is_in = values.get("allow") or any("root" in values.get(rule, []) for rule in SPACE_RULES)
    said = "lets in" if is_in else "does not let in"
    return f"{said}, and takes admin away" if values.get("deny_admin") else said


@dataclass(frozen=True)
class Source:
    """An author's file: how to call it, its lines, and its expressions by line and column."""

    name: str
    lines: Sequence[str]
    expressions: Mapping[tuple[int, int], str]

    @classmethod
    def of(cls, module: Module, name: str) -> Source:
        places = (
            (Position.of(node), node) for node in module.nodes() if "terms" in node and "location" in node
        )
        expressions = {(place.line, place.column): source(node) for place, node in places}
        return cls(name, module.text.split("\n"), expressions)

    def text(self, line: Line) -> str:
        """The expression that stopped, where it stands among others on its line; else the line."""
        if not 0 < line.number <= len(self.lines):
            return ""
        whole = self.lines[line.number - 1].strip()
        expression = self.expressions.get((line.number, line.column), whole)
        return whole if "\n" in expression else expression


def lines(clauses: Iterable[Clause], sources: Mapping[str, Source]) -> list[str]:
    """`sources` by the names that the clauses have; what is in no source of an author is left out."""
    return [line for clause in clauses for line in _of_clause(clause, sources, "")]


def _of_clause(clause: Clause, sources: Mapping[str, Source], indent: str) -> Iterator[str]:
    if (written := sources.get(clause.file)) is None:
        return
    yield f"{indent}{written.name}:{clause.line}: {_said(clause)}"
    for line in clause.held:
        yield f"{indent}  {line.number:>4} {_HELD} {written.text(line)}"
    if clause.stopped is None:
        return
    yield f"{indent}  {clause.stopped.number:>4} {_STOPPED} {written.text(clause.stopped)}"
    margin = f"{indent}         "
    for each in clause.stopped.saw:
        yield f"{margin}{each}"
    for behind in clause.stopped.behind:
        yield from _of_clause(behind, sources, margin)


def _said(clause: Clause) -> str:
    if clause.results:
        made = ", ".join(json.dumps(result, ensure_ascii=False) for result in clause.results)
        return f"{clause.rule} holds" if made == "true" else f"{clause.rule} says {made}"
    if clause.stopped is None:
        return f"{clause.rule} does not hold"
    times = f", for each of {clause.tried} values" if clause.tried > 1 else ""
    return f"{clause.rule} does not hold: line {clause.stopped.number} stops it{times}"
