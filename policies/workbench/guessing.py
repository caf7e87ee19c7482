"""Which kind of policy a text is, where nobody says so. Pure."""

from __future__ import annotations

from pathlib import PurePath

from policies.workbench.findings import Finding, nearest
from policies.workbench.kinds import Kind
from policies.workbench.requirements import has_right_shape
from policies.workbench.syntax import Module, Node, Position, rule_name

TEST_PREFIXES = ("test_", "todo_test_")


def kind_of(module: Module, file: str) -> Kind | None:
    """By an annotation (`schemas: - input: schema.task`), by the rules, or by the folder's name, in this order."""
    if annotated := _annotated(module):
        return annotated
    counted = {kind: _matches(module, kind) for kind in Kind}
    most = max(counted.values())
    likely = [kind for kind, count in counted.items() if count == most and most]
    if len(likely) == 1:
        return likely[0]
    folder = PurePath(file).parent.name
    return next((kind for kind in likely or Kind if kind.value == folder), None)


def unknown(module: Module, file: str) -> Finding:
    """What to tell an author whose kind cannot be seen."""
    names = sorted({rule_name(rule) for rule in module.rules})
    rules = {name for kind in Kind for name in kind.rules}
    hint = next((guess for name in names if name not in rules and (guess := nearest(name, rules))), "")
    place = Position.of(module.tree["package"])
    return Finding(
        file, place.line, place.column, "its rules do not say of which kind the policy is",
        hint or f"say it with --kind {'|'.join(kind.value for kind in Kind)}", "interlock/kind",
    )  # fmt: skip


def is_test(module: Module, file: str) -> bool:
    """It says nothing by itself: its name is a test's, or it has nothing but tests."""
    if PurePath(file).stem.endswith("_test"):
        return True
    return bool(module.rules) and all(rule_name(rule).startswith(TEST_PREFIXES) for rule in module.rules)


def _annotated(module: Module) -> Kind | None:
    annotations: list[Node] = module.tree.get("annotations") or []
    named = {
        term["value"]
        for annotation in annotations
        for schema in annotation.get("schemas") or []
        for term in schema.get("schema") or []
    }
    found = [kind for kind in Kind if kind.value in named]
    return found[0] if len(found) == 1 else None


def _matches(module: Module, kind: Kind) -> int:
    """How many rules that only a policy of this kind would have so."""
    fitting = {
        rule_name(rule)
        for rule in module.rules
        if rule_name(rule) in kind.needed_rules
        and (rule_name(rule) not in kind.rules or has_right_shape(rule, kind))
    }
    return len(fitting)
