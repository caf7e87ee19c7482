"""From an author's text to a module that may be loaded, or to everything that is wrong with it.

OPA itself checks the text, as the author wrote it and as it will be loaded; a check changes nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from policies.workbench import findings, library, requirements, rewriting
from policies.workbench.findings import Finding, TextRefusedError
from policies.workbench.kinds import Kind
from policies.workbench.syntax import AUTHOR_FILE, Module, RegoVersion, parse
from policies.workbench.toolchain import Output, Toolchain, ToolLimitError

MAX_TEXT_BYTES = 256 * 1024

_LOADED_FILE = "loaded.rego"
_MAX_FINDINGS = "100"


@dataclass(frozen=True)
class CompiledPolicy:
    """A text that was checked. `module` is what is stored beside it and loaded; see `LoadedPolicy`."""

    kind: Kind
    text: str
    rego_version: RegoVersion
    module: str


class Compiler:
    """Checks texts, each with `opa` processes of its own: about 0.1 s, v0 0.2 s."""

    def __init__(self, tools: Toolchain) -> None:
        self._tools = tools

    @property
    def tools(self) -> Toolchain:
        """What it checks with."""
        return self._tools

    async def compile(self, kind: Kind, text: str, file: str) -> CompiledPolicy:
        """Check `text`; findings name it `file`.

        Raises:
            TextRefusedError: with all findings of the first step that finds any.
        """
        try:
            _refuse(findings.of_form(text, MAX_TEXT_BYTES, file))
            author = await self._parse(text, file)
            _refuse(await asyncio.to_thread(requirements.findings, author, kind, file))
            if author.version is RegoVersion.V0:
                await self._check(author, kind, file)
                module = await self._converted(author, kind, file)
            else:
                module = await asyncio.to_thread(rewriting.rewrite, author, kind)
                await self._check(author, kind, file, loaded=module)
            return CompiledPolicy(kind, text, author.version, module)
        except ToolLimitError as error:
            finding = Finding(file, 0, 0, str(error), "make the policy smaller or simpler")
            raise TextRefusedError([finding]) from error

    async def _parse(self, text: str, file: str) -> Module:
        """As v1, else as v0; where it is neither, the dialect in which OPA came further has the say."""
        as_v1 = await parse(self._tools, text, RegoVersion.V1)
        if isinstance(as_v1, Module):
            return as_v1
        as_v0 = await parse(self._tools, text, RegoVersion.V0)
        if isinstance(as_v0, Module):
            return as_v0
        answers = [findings.of_output(output, AUTHOR_FILE, file) for output in (as_v1, as_v0)]
        raise TextRefusedError(max(answers, key=lambda found: (found[0].line, found[0].column)))

    async def _check(self, author: Module, kind: Kind, file: str, loaded: str | None = None) -> None:
        """Types against the kind's schema, built-ins against the allowed ones."""
        texts = {AUTHOR_FILE: await asyncio.to_thread(rewriting.with_aliases, author, kind)}
        if loaded is not None:
            texts[_LOADED_FILE] = rewriting.render(loaded, "candidate", 1)
        output = await self._opa_check(texts, kind, author.version)
        if output.exit_code:
            lines = author.text.count("\n") + 1
            _refuse(findings.of_output(output, AUTHOR_FILE, file, lines=lines, kind=kind))

    async def _converted(self, author: Module, kind: Kind, file: str) -> str:
        """What OPA's own formatter makes of a v0 module, checked as it will be loaded."""
        texts = {AUTHOR_FILE: await asyncio.to_thread(rewriting.without_dropped_builtins, author)}
        output = await self._tools.run("fmt", "--v0-v1", AUTHOR_FILE, files=texts)
        if output.exit_code:
            raise TextRefusedError([_unconvertible(file, output)])
        converted = await parse(self._tools, output.text, RegoVersion.V1)
        if not isinstance(converted, Module):
            raise TextRefusedError([_unconvertible(file, converted)])
        lines = await asyncio.to_thread(rewriting.line_map, author, converted)
        module = await asyncio.to_thread(rewriting.rewrite, converted, kind, lines)
        checked = await self._opa_check(
            {_LOADED_FILE: rewriting.render(module, "candidate", 1)}, kind, RegoVersion.V1
        )
        if checked.exit_code:
            raise TextRefusedError([_unconvertible(file, checked)])
        return module

    async def _opa_check(self, texts: dict[str, str], kind: Kind, version: RegoVersion) -> Output:
        dialect = ["--v0-compatible"] if version is RegoVersion.V0 else []
        given = {"schema.json": library.schema(kind), "capabilities.json": await self._tools.capabilities()}
        modules = {**texts, **library.helpers()}
        return await self._tools.run(
            "check", "--format=json", f"--max-errors={_MAX_FINDINGS}", "--schema=schema.json",
            "--capabilities=capabilities.json", *dialect, *modules,
            files={**given, **modules},
        )  # fmt: skip


def _refuse(found: list[Finding]) -> None:
    if found:
        raise TextRefusedError(found)


def _unconvertible(file: str, output: Output) -> Finding:
    cause = findings.of_output(output, "", file)[0].message
    return Finding(file, 0, 0, f"this v0 policy cannot become Rego v1: {cause}", "write it in Rego v1")
