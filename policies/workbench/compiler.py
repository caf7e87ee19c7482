"""From an author's text to a module that may be loaded, or to everything that is wrong with it.

OPA itself checks the text, as the author wrote it and as it will be loaded; a check changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from policies.workbench import findings, library, requirements, rewriting
from policies.workbench.findings import Finding, TextRefusedError
from policies.workbench.kinds import Kind
from policies.workbench.syntax import AUTHOR_FILE, Module, RegoVersion, parse
from policies.workbench.toolchain import Output, Toolchain, ToolLimitError

MAX_TEXT_BYTES = 256 * 1024

# OPA takes files by name and stops at a number of errors: the author's comes first.
_LOADED_FILE = "rewritten.rego"
_MAX_FINDINGS = "100"
_MOST_STAGES = 5
_PATIENCE_S = 3.0


@dataclass(frozen=True)
class CompiledPolicy:
    """A text that was checked. `module` is what is stored beside it and loaded; see `LoadedPolicy`.

    `warnings` are what Regal advises, where it was asked.
    """

    kind: Kind
    text: str
    rego_version: RegoVersion
    module: str
    warnings: tuple[Finding, ...] = ()


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
            TextRefusedError: with all findings: of its syntax, or of everything else.
        """
        try:
            return await self.compile_module(await self.parse(text, file), kind, file)
        except ToolLimitError as error:
            raise TextRefusedError([over_limit(error, file)]) from error

    async def compile_module(self, author: Module, kind: Kind, file: str) -> CompiledPolicy:
        """As `compile`, of a text that was parsed."""
        try:
            found, module = await self._judged(author, kind, file)
            if found and (older := await self._as_v0(author, kind, file)):
                author, found, module = older, [], None
            elif found:
                _refuse(found + await self._hidden(author, kind, file, found))
            if module is None:
                module = await self._converted(author, kind, file)
            return CompiledPolicy(kind, author.text, author.version, module)
        except ToolLimitError as error:
            raise TextRefusedError([over_limit(error, file)]) from error

    async def _judged(self, author: Module, kind: Kind, file: str) -> tuple[list[Finding], str | None]:
        """What is wrong, first of all, and the module to load where it is v1 and nothing is."""
        found = await asyncio.to_thread(requirements.findings, author, kind, file)
        module = None
        if author.version is RegoVersion.V1 and not found:
            module = await asyncio.to_thread(rewriting.rewrite, author, kind)
        if not requirements.may_reach_out(found):
            found += await self._check(author, kind, file, loaded=module)
        return found, module

    async def _as_v0(self, author: Module, kind: Kind, file: str) -> Module | None:
        """A text that parses as v1 may yet be v0: by a built-in that v1 dropped, or a variable called `input`."""
        if author.version is RegoVersion.V0:
            return None
        older = await parse(self._tools, author.text, RegoVersion.V0)
        if not isinstance(older, Module):
            return None
        found, _ = await self._judged(older, kind, file)
        return None if found else older

    async def parse(self, text: str, file: str) -> Module:
        """As v1, else as v0; where it is neither, the dialect in which OPA came further has the say.

        Raises:
            TextRefusedError: with what is wrong with its form or its syntax.
            ToolLimitError: the text is hostile.
        """
        _refuse(findings.of_form(text, MAX_TEXT_BYTES, file))
        as_v1 = await parse(self._tools, text, RegoVersion.V1)
        if isinstance(as_v1, Module):
            return as_v1
        as_v0 = await parse(self._tools, text, RegoVersion.V0)
        if isinstance(as_v0, Module):
            return as_v0
        answers = [findings.of_output(output, AUTHOR_FILE, file) for output in (as_v1, as_v0)]
        raise TextRefusedError(max(answers, key=lambda found: (found[0].line, found[0].column)))

    async def _check(self, author: Module, kind: Kind, file: str, loaded: str | None = None) -> list[Finding]:
        """Types against the kind's schema, built-ins against the allowed ones."""
        texts = {AUTHOR_FILE: await asyncio.to_thread(rewriting.with_aliases, author, kind)}
        if loaded is not None:
            texts[_LOADED_FILE] = rewriting.render(loaded, "candidate", 1)
        output = await self._opa_check(texts, kind, author.version)
        if not output.exit_code:
            return []
        lines = author.text.count("\n") + 1
        return findings.of_output(output, AUTHOR_FILE, file, lines=lines, kind=kind)

    async def _hidden(self, author: Module, kind: Kind, file: str, found: list[Finding]) -> list[Finding]:
        """What OPA would say next: it stops at its first stage that finds something. So it is asked again with all
        built-ins allowed, and then without the rules in which something was found, stage by stage."""
        if requirements.may_reach_out(found):
            return []
        aliases = await asyncio.to_thread(rewriting.alias_imports, author, kind)
        text, gone, seen = author.text, frozenset[str](), list(found)
        began = time.monotonic()
        for _ in range(_MOST_STAGES):
            if time.monotonic() - began > _PATIENCE_S:
                break  # what is known is enough
            output = await self._opa_check(
                {AUTHOR_FILE: rewriting.joined(text, aliases)}, kind, author.version, is_open=True
            )
            if not output.exit_code:
                break
            lines = author.text.count("\n") + 1
            more = findings.of_output(output, AUTHOR_FILE, file, lines=lines, kind=kind)
            if any(each.rule == findings.PARSE_ERROR for each in more):
                break  # what is left of a blanked rule
            seen += [each for each in more if each.line and each not in seen and not each.mentions(gone)]
            before, found_at = text, {each.line for each in seen if each.is_opas}
            text, gone = await asyncio.to_thread(rewriting.without_rules, author, found_at)
            if text == before:
                break
        return seen[len(found) :]

    async def _converted(self, author: Module, kind: Kind, file: str) -> str:
        """What OPA's own formatter makes of a v0 module, checked as it will be loaded."""
        texts = {AUTHOR_FILE: await asyncio.to_thread(rewriting.without_dropped_builtins, author)}
        output = await self._tools.run("fmt", "--v0-v1", AUTHOR_FILE, files=texts)
        if output.exit_code:
            raise TextRefusedError(
                _unconvertible(findings.of_formatter(output, AUTHOR_FILE, file))
                or _unconvertible(findings.of_output(output, "", file))
            )
        converted = await parse(self._tools, output.text, RegoVersion.V1)
        if not isinstance(converted, Module):
            raise TextRefusedError(_unconvertible(findings.of_output(converted, "", file)))
        lines = await asyncio.to_thread(rewriting.line_map, author, converted)
        module = await asyncio.to_thread(rewriting.rewrite, converted, kind, lines)
        rendered = rewriting.render(module, "candidate", 1)
        checked = await self._opa_check({_LOADED_FILE: rendered}, kind, RegoVersion.V1)
        if checked.exit_code:
            found = findings.of_output(checked, _LOADED_FILE, file)
            raise TextRefusedError(
                _unconvertible(
                    replace(each, line=rewriting.author_line(rendered, each.line), column=0)
                    if each.line
                    else each
                    for each in found
                )
            )
        return module

    async def _opa_check(
        self, texts: dict[str, str], kind: Kind, version: RegoVersion, *, is_open: bool = False
    ) -> Output:
        """`is_open`: with every built-in."""
        dialect = ["--v0-compatible"] if version is RegoVersion.V0 else []
        capabilities = self._tools.all_builtins() if is_open else self._tools.capabilities()
        given = {"schema.json": library.schema(kind), "capabilities.json": await capabilities}
        modules = {**texts, **library.helpers()}
        return await self._tools.run(
            "check", "--format=json", f"--max-errors={_MAX_FINDINGS}", "--schema=schema.json",
            "--capabilities=capabilities.json", *dialect, *modules,
            files={**given, **modules},
        )  # fmt: skip


def over_limit(error: ToolLimitError, file: str) -> Finding:
    """A text that costs more than it may, as a finding."""
    return Finding(file, 0, 0, str(error), "make the policy smaller or simpler", "interlock/limit")


def _refuse(found: list[Finding]) -> None:
    if found:
        raise TextRefusedError(findings.in_order(found))


def _unconvertible(found: Iterable[Finding]) -> list[Finding]:
    return [
        replace(
            each,
            message=f"this v0 policy cannot become Rego v1: {each.message}",
            hint="write it in Rego v1",
        )
        for each in found
    ]
