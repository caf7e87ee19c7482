"""What Interlock itself asks of a module, beyond what OPA checks. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from policies.workbench.findings import Finding, in_order, nearest
from policies.workbench.kinds import Kind
from policies.workbench.rewriting import RESERVED_PREFIX, is_own_reference
from policies.workbench.syntax import Module, Node, Position, import_name, rule_name

# `data` is no package, and `package data.interlock` only looks like one.
_RESERVED_PACKAGES = ("data", "interlock", "system")
_HELPER = ["data", "interlock", "lib", "sanitized"]
_REMOTE_SCHEMA = "interlock/remote-schema"
_LITERALS = {"boolean", "string", "number", "null", "object", "array", "set"}


def findings(module: Module, kind: Kind, file: str) -> list[Finding]:
    """All that is wrong: the package, the names, what it reads, the shape of the rules that count."""
    checks = {
        "package": _package(module),
        "reserved-name": _reserved_names(module),
        "foreign-data": _foreign_data(module),
        "remote-schema": _remote_schemas(module),
        "rules-of-kind": _rules_of_kind(module, kind),
        "misspelt-rule": _misspelt_rules(module, kind),
    }
    return in_order(
        Finding(file, position.line, position.column, message, hint, f"interlock/{rule}")
        for rule, problems in checks.items()
        for position, message, hint in problems
    )


def remote_schemas(module: Module, file: str) -> list[Finding]:
    """Of a text of which nothing else is asked."""
    return [
        Finding(file, position.line, position.column, message, hint, _REMOTE_SCHEMA)
        for position, message, hint in _remote_schemas(module)
    ]


def may_reach_out(found: Sequence[Finding]) -> bool:
    """OPA must not be given such a text, not even to check it."""
    return any(finding.rule == _REMOTE_SCHEMA for finding in found)


def _package(module: Module) -> Iterator[tuple[Position, str, str]]:
    if module.package[0] in _RESERVED_PACKAGES:
        problem = f"the package {'.'.join(module.package)} is reserved"
        yield Position.of(module.tree["package"]), problem, "use `package spacelift`"


def _reserved_names(module: Module) -> Iterator[tuple[Position, str, str]]:
    named = [(rule_name(rule), rule) for rule in module.rules]
    named += [(import_name(node), node) for node in module.imports]
    for name, node in named:
        if name.startswith(RESERVED_PREFIX):
            problem = f"names that begin with {RESERVED_PREFIX} are reserved"
            yield Position.of(node), problem, "choose another name"


def _foreign_data(module: Module) -> Iterator[tuple[Position, str, str]]:
    """A policy sees its input and its own package; `data` in any other use could reach another's."""
    own = {
        id(node["value"][0])
        for node in module.nodes()
        if node.get("type") == "ref"
        and (is_own_reference(module, node["value"]) or _is_helper(node["value"]))
    }
    for node in module.nodes():
        if node.get("type") == "var" and node["value"] == "data" and id(node) not in own:
            yield Position.of(node), "a policy cannot read `data` outside of its own package", "use `input`"


def _is_helper(path: Sequence[Node]) -> bool:
    """Spelt out, so that plain `opa test` finds it too."""
    return [term["value"] for term in path] == _HELPER


def _remote_schemas(module: Module) -> Iterator[tuple[Position, str, str]]:
    """An annotation's inline schema could make OPA read a file or an address."""
    waiting: list[Node] = list(module.tree.get("annotations") or [])
    for annotation in waiting:
        for schema in annotation.get("schemas") or []:
            if "definition" in schema and "$ref" in str(schema["definition"]):
                yield Position.of(annotation), "an inline schema cannot have a `$ref`", "write it out"


def _rules_of_kind(module: Module, kind: Kind) -> Iterator[tuple[Position, str, str]]:
    defined = {rule_name(rule) for rule in module.rules}
    if not defined & kind.needed_rules:
        names = " or ".join(f"`{name}`" for name in sorted(kind.rules))
        guesses = (nearest(name, kind.rules) for name in sorted(defined))
        hint = next((guess for guess in guesses if guess), "")
        yield Position.of(module.tree["package"]), f"a policy of kind {kind.value} must define {names}", hint
    for rule in module.rules:
        if rule_name(rule) not in kind.rules:
            continue
        if shape := _wrong_shape(rule, kind):
            yield Position.of(rule), f"`{rule_name(rule)}` must be {shape}", ""


def _misspelt_rules(module: Module, kind: Kind) -> Iterator[tuple[Position, str, str]]:
    """A rule that nobody reads, one letter off from one that counts: it would be silently dead."""
    if not {rule_name(rule) for rule in module.rules} & kind.needed_rules:
        return  # which is said already
    meant = {
        name: near
        for name in {rule_name(rule) for rule in module.rules} - kind.needed_rules - kind.further_rules
        if (near := next((each for each in sorted(kind.needed_rules) if is_one_letter_off(name, each)), ""))
    }
    for name in _read_names(module) if meant else ():
        meant.pop(name, None)
    for rule in module.rules:
        if (name := rule_name(rule)) in meant:
            problem = f"nothing reads `{name}`, which is no rule of kind {kind.value}"
            yield Position.of(rule), problem, f"did you mean {meant[name]!r}?"


def _read_names(module: Module) -> list[str]:
    """Names that occur apart from being defined; in one pass, since a text may have very many."""
    occurs: Counter[str] = Counter()
    for node in module.nodes():
        if node.get("type") in ("var", "string"):
            occurs[node["value"]] += 1
        reference = node.get("ref")
        if isinstance(reference, list) and reference:
            occurs[reference[0].get("value")] -= 1
    return [name for name, count in occurs.items() if count > 0]


def is_one_letter_off(name: str, meant: str) -> bool:
    """One letter too many, too few, another, or two swapped."""
    if abs(len(name) - len(meant)) > 1 or name == meant:
        return False
    pairs = enumerate(zip(name, meant, strict=False))
    same = next((place for place, (one, other) in pairs if one != other), min(len(name), len(meant)))
    rest, other = name[same:], meant[same:]
    return (
        rest[1:] == other
        or rest == other[1:]
        or rest[1:] == other[1:]
        or (rest[:2] == other[1::-1] and rest[2:] == other[2:])
    )


def has_right_shape(rule: Node, kind: Kind) -> bool:
    """Whether one of the kind's rules may come to what the kind reads."""
    return not _wrong_shape(rule, kind)


def _wrong_shape(rule: Node, kind: Kind) -> str:
    """What the rule should be, where its head shows that it never is that."""
    head = rule["head"]
    literal = "" if "key" in head else head["value"]["type"]
    is_single = "args" not in head and len(head["ref"]) == 1
    match kind:
        case Kind.TASK:
            is_right = is_single and literal not in _LITERALS - {"set"}
            return "" if is_right else 'a set of messages: `deny contains "why" if { … }`'
        case Kind.ACCESS | Kind.APPROVAL | Kind.LOGIN:
            is_right = is_single and "key" not in head and literal not in _LITERALS - {"boolean"}
            return "" if is_right else f"a boolean: `{rule_name(rule)} if {{ … }}`"
