"""From OPA's trace to which line made which message, and which line stopped a rule that did not hold. Pure.

OPA traces queries within queries: one for each body of a rule, comprehension, negation or `every` that it looks at. The
bodies of rules are what an author knows: each becomes a clause, and those behind a line hang on that line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from policies.workbench.syntax import Node, nodes, rule_name

Event: TypeAlias = Mapping[str, Any]

# Deeper, and more of the same, explains nothing any more.
_MOST_DEPTH: Final = 4
_MOST_RESULTS: Final = 20
_MOST_TEXT: Final = 120


@dataclass(frozen=True)
class Line:
    """One line of a clause that was looked at."""

    number: int
    # Where the expression begins that stopped its clause, else 0.
    column: int = 0
    # What the line saw, as in `input.session.admin is false`; of a line that stopped its clause only.
    saw: tuple[str, ...] = ()
    behind: tuple[Clause, ...] = ()


@dataclass(frozen=True)
class Clause:
    """One body of a rule as it was evaluated."""

    rule: str
    file: str
    line: int
    # What it made of the rule, each once; empty where it did not hold.
    results: tuple[Any, ...]
    # Those that held, in their order.
    held: tuple[Line, ...]
    # The one past which it never came, where it did not hold.
    stopped: Line | None
    # How often it was stopped there: once for each value that was tried.
    tried: int = 1


@dataclass
class _Query:
    """One query of the trace. `document` is the input that it saw, None where that is not known."""

    parent: _Query | None
    node: Any
    file: str
    row: int
    document: Any
    row_in_parent: int
    # By row, the expressions that were evaluated there, each with the names and values that it had.
    seen: dict[int, list[Event]] = field(default_factory=dict)
    stops: list[Event] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    queries: list[_Query] = field(default_factory=list)

    @property
    def rule(self) -> str:
        """Empty where it is no rule's."""
        return rule_name(self.node) if isinstance(self.node, dict) and "head" in self.node else ""


def clauses(events: Iterable[Event], rules: Iterable[str], document: Any) -> list[Clause]:
    """The clauses of these rules, in the order of their lines."""
    wanted = frozenset(rules)
    queries = [query for query in _queries(events, document) if query.rule]
    found: dict[tuple[str, int], Clause] = {}
    for query in queries:
        if query.rule in wanted:
            clause = _clause(query, queries, ())
            earlier = found.get((clause.file, clause.line))
            if earlier is None or (clause.results and not earlier.results):
                found[clause.file, clause.line] = clause
    return sorted(found.values(), key=lambda clause: (clause.file, clause.line))


def _queries(events: Iterable[Event], document: Any) -> list[_Query]:
    found: dict[int, _Query] = {}
    for event in events:
        query = found.get(event["QueryID"])
        match event["Op"]:
            case "Enter" if query is None:
                found[event["QueryID"]] = _entered(event, found.get(event["ParentID"]), document)
            case "Eval" if query is not None:
                query.seen.setdefault(_row(event), []).append(event)
            case "Fail" if query is not None:
                query.stops.append(event)
            case "Exit" if query is not None and query.rule:
                query.results.append(_result(query.node["head"], event))
            case _:
                pass
    return list(found.values())


def _entered(event: Event, parent: _Query | None, document: Any) -> _Query:
    row = next(reversed(parent.seen)) if parent and parent.seen else 0
    if parent is not None:
        document = parent.document
        if last := parent.seen.get(row):
            document = _replaced(document, last[-1])
    place = event.get("Location") or {}
    query = _Query(parent, event["Node"], place.get("file", ""), place.get("row", 0), document, row)
    if parent is not None:
        parent.queries.append(query)
    return query


def _clause(query: _Query, queries: Sequence[_Query], above: tuple[str, ...]) -> Clause:
    results = tuple(_once(query.results))
    last = None if results or not query.stops else max(query.stops, key=lambda event: event["Node"]["index"])
    stopped = _stop(query, last, queries, (*above, query.rule)) if last else None
    rows = [
        row
        for row, events in query.seen.items()
        if last is None or (row != _row(last) and events[0]["Node"]["index"] < last["Node"]["index"])
    ]
    tried = sum(event["Node"]["index"] == last["Node"]["index"] for event in query.stops) if last else 1
    return Clause(query.rule, query.file, query.row, results, tuple(map(Line, sorted(rows))), stopped, tried)


def _stop(query: _Query, last: Event, queries: Sequence[_Query], above: tuple[str, ...]) -> Line:
    row = _row(last)
    events = [*query.seen.get(row, []), last]
    behind: dict[tuple[str, int], Clause] = {}
    if len(above) < _MOST_DEPTH:
        asked = list(_rules_below(query, row))
        # A rule is evaluated once: where another line had it before, its clauses are found by its name.
        named = set(_rules_named(events)) - {each.rule for each in asked}
        for each in [*asked, *(other for other in queries if other.rule in named)]:
            if each.rule not in above and (each.file, each.row) not in behind:
                behind[each.file, each.row] = _clause(each, queries, above)
    column = int((last.get("Location") or {}).get("col", 0))
    return Line(row, column, tuple(_saw(events, query.document)), tuple(behind.values()))


def _rules_below(query: _Query, row: int) -> Iterator[_Query]:
    """The nearest rules that this line asked for, directly or from within a comprehension or negation."""
    for each in query.queries:
        if each.row_in_parent == row:
            yield from [each] if each.rule else _all_rules_below(each)


def _all_rules_below(query: _Query) -> Iterator[_Query]:
    for each in query.queries:
        yield from [each] if each.rule else _all_rules_below(each)


def _rules_named(events: Iterable[Event]) -> Iterator[str]:
    """The last word of each `data.PACKAGE.RULE`."""
    for event in events:
        for node in nodes(event["Node"]):
            path = node.get("value")
            if node.get("type") == "ref" and isinstance(path, list) and path[0].get("value") == "data":
                yield from (str(term["value"]) for term in path[1:] if term["type"] == "string")


def _saw(events: Sequence[Event], document: Any) -> Iterator[str]:
    """What a line's parts of the input and its variables were."""
    said: dict[str, None] = {}
    for event in events:
        variables = _variables(event)
        for node in nodes(event["Node"]):
            if node.get("type") == "ref" and isinstance(node["value"], list):
                path = node["value"]
                if path[0].get("value") == "input" and document is not None:
                    said.setdefault(_of_input(path, document, variables))
            elif node.get("type") == "var" and (known := variables.get(node["value"])) and known[0]:
                said.setdefault(f"{known[0]} is {_short(known[1])}")
    return iter(said)


def _of_input(path: Sequence[Node], document: Any, variables: Mapping[str, tuple[str, Any]]) -> str:
    """As far as the path's parts are known, what is there."""
    name, here = "input", document
    for term in path[1:]:
        if term["type"] == "var" and term["value"] not in variables:
            break
        key = variables[term["value"]][1] if term["type"] == "var" else _plain(term)
        name += f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{json.dumps(key)}]"
        try:
            here = here[key]
        except (KeyError, IndexError, TypeError):
            return f"{name} is undefined"
    return f"{name} is {_short(here)}"


def _variables(event: Event) -> dict[str, tuple[str, Any]]:
    """By OPA's own name of a variable, the author's name, empty where it has none, and the value."""
    names = {own: about["name"] for own, about in (event.get("LocalMetadata") or {}).items()}
    return {
        (own := binding["name"]): (
            "" if (name := names.get(own, own)).startswith(("__local", "_", "$")) else name,
            _plain(binding),
        )
        for binding in event.get("Locals") or []
    }


def _replaced(document: Any, event: Event) -> Any:
    """The input that `with input… as …` puts in its place; None where that is not known."""
    variables = _variables(event)
    for replacement in event["Node"].get("with") or []:
        path = replacement["target"]["value"]
        if not isinstance(path, list) or path[0]["value"] != "input":
            continue
        value = replacement["value"]
        if value["type"] == "var" and value["value"] in variables:
            document = variables[value["value"]][1]
        elif _is_plain(value) and len(path) == 1:
            document = _plain(value)
        else:
            return None
    return document


def _result(head: Node, event: Event) -> Any:
    term = head.get("key") or head.get("value") or {"type": "boolean", "value": True}
    if term["type"] == "var":
        return _variables(event).get(term["value"], ("", None))[1]
    return _plain(term) if _is_plain(term) else None


def _is_plain(term: Node) -> bool:
    return not any(node.get("type") in ("var", "ref", "call") or "body" in node for node in nodes(term))


def _plain(term: Node) -> Any:
    """A value of OPA's syntax tree as JSON has it; sets are lists."""
    match term["type"]:
        case "array" | "set":
            return [_plain(each) for each in term["value"]]
        case "object":
            return {str(_plain(key)): _plain(value) for key, value in term["value"]}
        case "ref" | "call" | "var":
            return None
        case _:
            return term.get("value")


def _once(results: Iterable[Any]) -> Iterator[Any]:
    texts: dict[str, Any] = {}
    for result in results:
        texts.setdefault(json.dumps(result, sort_keys=True), result)
    return iter(list(texts.values())[:_MOST_RESULTS])


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"


def _row(event: Event) -> int:
    return int((event.get("Location") or {}).get("row", 0))
