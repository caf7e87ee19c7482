"""Texts as they are laid out for `opa test`: in one dialect, with what the server has for policies. No line is moved."""

from __future__ import annotations

import asyncio
import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from policies.workbench import library, rewriting
from policies.workbench.evaluation import DESK_KEY
from policies.workbench.kinds import Kind
from policies.workbench.pairing import Unit
from policies.workbench.syntax import RegoVersion
from policies.workbench.toolchain import Output, Toolchain

# In which the author's files lie, so that a path of theirs meets none of ours.
_TREE: Final = "tree"
_KEY: Final = "key.json"
_CAPABILITIES: Final = "capabilities.json"


class Dialect(enum.Enum):
    """How texts are read together."""

    V1 = enum.auto()
    # As v0, but for texts that parse as v1.
    MIXED = enum.auto()
    # What parses as v1 may yet be v0, such as a test with a variable called `input`.
    V0 = enum.auto()


@dataclass(frozen=True)
class Bench:
    """`names` leads from a file's place to what its author calls it; `modules` are all that is Rego."""

    files: Mapping[str, str]
    flags: Sequence[str]
    names: Mapping[str, str]
    modules: Sequence[str]
    paths: Sequence[str]

    async def run(self, tools: Toolchain, command: str, *arguments: str, on_modules: bool = False) -> Output:
        """An `opa` command on all of it, or on its Rego alone."""
        targets = self.modules if on_modules else self.paths
        return await tools.run(command, *arguments, *self.flags, *targets, files=self.files)

    async def eval(self, tools: Toolchain, query: str, *arguments: str) -> Output:
        data = [argument for path in self.paths for argument in ("--data", path)]
        return await tools.run("eval", *arguments, *self.flags, *data, query, files=self.files)


async def laid_out(
    tools: Toolchain,
    unit: Unit,
    data: Mapping[str, str],
    dialect: Dialect,
    *,
    kind: Kind | None,
    is_limited: bool,
) -> Bench:
    """`data` are the author's data files; `kind` the policies', where it is known; `is_limited` allows the built-ins of
    policies alone, as for texts of strangers."""
    texts = await asyncio.to_thread(_texts, unit, kind, dialect)
    modules = {f"{_TREE}/{file}": text for file, text in texts.items()} | library.helpers()
    given = {f"{_TREE}/{file}": text for file, text in data.items()}
    given[_KEY] = json.dumps({"interlock": {"sanitizer_key": DESK_KEY}})
    flags = [] if dialect is Dialect.V1 else ["--v0-compatible"]
    if is_limited:
        given[_CAPABILITIES] = await tools.capabilities()
        flags.append(f"--capabilities={_CAPABILITIES}")
    names = {f"{_TREE}/{source.file}": source.name for source in unit.sources}
    return Bench({**modules, **given}, flags, names, list(modules), [_TREE, _KEY, *library.helpers()])


def dialects(unit: Unit) -> list[Dialect]:
    """In which to try it, one after another."""
    is_v0 = any(source.module.version is RegoVersion.V0 for source in unit.sources)
    return [Dialect.MIXED if is_v0 else Dialect.V1, Dialect.V0]


def _texts(unit: Unit, kind: Kind | None, dialect: Dialect) -> dict[str, str]:
    """With the short names that the policies use; tests have none at the server either."""
    texts = {}
    for source in unit.sources:
        known = None if source.is_test else kind or source.kind
        is_odd = dialect is Dialect.MIXED and source.module.version is RegoVersion.V1
        text = rewriting.as_v1_in_v0(source.module) if is_odd else source.module.text
        texts[source.file] = rewriting.joined(text, rewriting.alias_imports(source.module, known))
    return texts
