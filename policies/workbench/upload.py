"""What an upload asks of a text: that it compiles, and that the author's tests of it pass, if there are any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath

from policies.workbench import regal, requirements, testing
from policies.workbench.compiler import CompiledPolicy, Compiler, over_limit
from policies.workbench.findings import PARSE_ERROR, Finding, TextRefusedError, in_order
from policies.workbench.guessing import TEST_PREFIXES
from policies.workbench.kinds import Kind
from policies.workbench.pairing import Source, Unit
from policies.workbench.syntax import Module, rule_name
from policies.workbench.toolchain import ToolLimitError


async def accepted(
    compiler: Compiler, kind: Kind, text: str, file: str, tests: Mapping[str, str], linter: Path | None = None
) -> CompiledPolicy:
    """`tests` are texts by what their author calls them; `linter` is Regal, whose advice refuses nothing.

    Raises:
        TextRefusedError: with what is wrong with the policy and the form of the tests, else with the tests that fail.
    """
    found: list[Finding] = []
    compiled, modules = None, []
    try:
        compiled = await compiler.compile(kind, text, file)
    except TextRefusedError as refused:
        found += refused.findings
    for name, body in tests.items():
        try:
            modules.append((name, await _test_module(compiler, name, body)))
        except TextRefusedError as refused:
            found += refused.findings
    does_parse = not any(each.rule == PARSE_ERROR for each in found)
    warnings = await regal.lint_text(linter, text, file) if linter and does_parse else []
    if compiled is None or found:
        raise TextRefusedError(in_order([*found, *warnings]))
    if modules and (failed := await _failed(compiler, kind, text, file, modules)):
        raise TextRefusedError([*failed, *warnings])
    return replace(compiled, warnings=tuple(warnings))


async def _test_module(compiler: Compiler, name: str, body: str) -> Module:
    try:
        module = await compiler.parse(body, name)
    except ToolLimitError as error:
        raise TextRefusedError([over_limit(error, name)]) from error
    if found := requirements.remote_schemas(module, name):
        raise TextRefusedError(found)
    if not any(rule_name(rule).startswith(TEST_PREFIXES) for rule in module.rules):
        problem, hint = "there is no test in it", "a test is a rule whose name begins with test_"
        raise TextRefusedError([Finding(name, 0, 0, problem, hint, "interlock/no-test")])
    return module


async def _failed(
    compiler: Compiler, kind: Kind, text: str, file: str, tests: list[tuple[str, Module]]
) -> list[Finding]:
    """Where they lie has nothing of what their author calls them: such a name may lead anywhere."""
    unit = Unit(
        (
            Source("policy.rego", await compiler.parse(text, file), file),
            *(Source(f"t{place}_test.rego", module, name) for place, (name, module) in enumerate(tests)),
        )
    )
    try:
        report = await testing.run(compiler.tools, unit, {}, kind=kind, is_limited=True)
    except ToolLimitError as error:
        return [over_limit(error, tests[0][0])]
    return in_order(report.findings) or [
        Finding(
            result.file, result.line, 0, f"the test {result.name} {result.failure}",
            f"see why with: interlock policy test {PurePath(result.file).parent}", "interlock/test-failed",
        )
        for result in report.results
        if result.failure
    ]  # fmt: skip
