"""Which texts are evaluated together with which tests. Pure.

Policies have equal package names without meeting: so a test `x_test.rego` stands beside `x.rego` and not beside the
other policies of its folder, as published sets of policies are written and tested. A test that has no such policy stands
beside all those whose packages it names, as with plain `opa test`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from policies.workbench import guessing
from policies.workbench.guessing import TEST_PREFIXES
from policies.workbench.kinds import Kind
from policies.workbench.syntax import Module, bound_names, rule_name, used_names


@dataclass(frozen=True)
class Source:
    """A text that parses; `file` is its path with slashes below the folder, `name` what its author calls it."""

    file: str
    module: Module
    name: str

    @property
    def kind(self) -> Kind | None:
        return guessing.kind_of(self.module, self.file)

    @property
    def is_test(self) -> bool:
        return guessing.is_test(self.module, self.file)

    @property
    def has_tests(self) -> bool:
        return any(rule_name(rule).startswith(TEST_PREFIXES) for rule in self.module.rules)

    @property
    def subject(self) -> str:
        """`a/x` for both `a/x.rego` and `a/x_test.rego`."""
        return self.file.removesuffix(".rego").removesuffix("_test")

    @property
    def folder(self) -> str:
        return str(PurePosixPath(self.file).parent)

    def names_package(self, package: Sequence[str]) -> bool:
        """It says `data.PACKAGE` somewhere."""
        path = ("data", *package)
        return any(
            len(node["value"]) >= len(path)
            and all(term["value"] == name for term, name in zip(node["value"], path, strict=False))
            for node in self.module.nodes()
            if node.get("type") == "ref" and isinstance(node["value"], list)
        )


@dataclass(frozen=True)
class Unit:
    """Texts that are loaded together; its first is the test, or a policy that nobody tests."""

    sources: tuple[Source, ...]

    @property
    def policies(self) -> list[Source]:
        return [source for source in self.sources if not source.is_test]


def units(sources: Sequence[Source]) -> list[Unit]:
    """One for each text that has tests, then one for each policy that is in none of them."""
    tested = [Unit(_together(source, sources)) for source in sources if source.has_tests]
    known = {source.file for unit in tested for source in unit.sources}
    return [
        *tested,
        *(Unit((source,)) for source in sources if source.file not in known and not source.is_test),
    ]


def _together(test: Source, sources: Sequence[Source]) -> tuple[Source, ...]:
    others = [source for source in sources if source is not test]
    partner = next((each for each in others if not each.is_test and each.subject == test.subject), None)
    found = [test, partner] if partner else [test]
    waiting = list(found)
    while waiting:
        source = waiting.pop()
        for other in others:
            if other not in found and _is_needed(other, source, test, partner, sources):
                found.append(other)
                waiting.append(other)
    return tuple(found)


def _is_needed(
    other: Source, source: Source, test: Source, partner: Source | None, sources: Iterable[Source]
) -> bool:
    package = other.module.package
    if other.has_tests:
        return False
    if package not in {each.module.package for each in (test, partner) if each}:
        return source.names_package(package)
    if partner is not None:
        return other.folder == test.folder and _lends(other, source, test, partner, sources)
    return test.is_test  # else it is a policy that has its tests in itself


def _lends(other: Source, source: Source, test: Source, partner: Source, sources: Iterable[Source]) -> bool:
    """A part that the source is written with: no policy, with no test of its own, and it defines what is missing."""
    if other.kind is not None or any(
        each.is_test and each is not other and each.subject == other.subject for each in sources
    ):
        return False
    known = bound_names(source.module) | bound_names(test.module) | bound_names(partner.module)
    defined = {rule_name(rule) for rule in other.module.rules}
    return bool(defined & (used_names(source.module) - known))
