"""Tests of policies, run by `opa test` within limits, and what they cover, at the author's own lines."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from policies.workbench import bench, evaluation, explaining, findings, tracing
from policies.workbench.bench import Bench
from policies.workbench.explaining import Source
from policies.workbench.findings import Finding
from policies.workbench.kinds import Kind
from policies.workbench.pairing import Unit
from policies.workbench.toolchain import Output, Toolchain, ToolLimitError

_MOST_EXPLAINED: Final = 10
# Each test; a policy that takes half as long is refused at the server.
_TEST_TIMEOUT_S: Final = 3
_LATE: Final = re.compile("deadline exceeded|timed out|query cancelled")


@dataclass(frozen=True)
class Result:
    """One test. `failure` is empty where it passed or was skipped."""

    file: str
    line: int
    package: str
    name: str
    failure: str
    is_skipped: bool
    printed: str


@dataclass(frozen=True)
class Coverage:
    """Lines of one file that have something to evaluate. A line is covered where all that is on it was evaluated."""

    file: str
    lines: frozenset[int]
    missed: frozenset[int]

    def also(self, other: Coverage) -> Coverage:
        """With what other tests cover of the same file."""
        return Coverage(self.file, self.lines | other.lines, self.missed & other.missed)

    @property
    def percent(self) -> float:
        return 100.0 * (len(self.lines) - len(self.missed)) / len(self.lines) if self.lines else 100.0


@dataclass(frozen=True)
class Report:
    """What became of a unit. With `findings` it could not be loaded; coverage is known where all tests passed."""

    results: Sequence[Result] = ()
    coverage: Sequence[Coverage] = ()
    findings: Sequence[Finding] = ()
    # What stopped a test that failed.
    explanations: Mapping[Result, Sequence[str]] = field(default_factory=dict)


async def run(
    tools: Toolchain,
    unit: Unit,
    data: Mapping[str, str],
    *,
    kind: Kind | None = None,
    is_limited: bool = False,
) -> Report:
    """See `bench.laid_out` for the arguments. With `is_limited` it is only said which tests fail: nobody waits for more.

    Raises:
        ToolLimitError: it takes too long or too much memory.
    """
    tried = []
    for dialect in bench.dialects(unit):
        table = await bench.laid_out(tools, unit, data, dialect, kind=kind, is_limited=is_limited)
        report = await _judged(tools, unit, table, with_coverage=not is_limited)
        if not report.findings and is_limited:
            return report
        if not report.findings:
            return replace(report, explanations=await _explained(tools, unit, table, report.results))
        tried.append(report)
    return tried[0]


def merged(coverage: Iterable[Coverage]) -> list[Coverage]:
    """By file."""
    found: dict[str, Coverage] = {}
    for each in coverage:
        found[each.file] = found[each.file].also(each) if each.file in found else each
    return [found[file] for file in sorted(found)]


async def _judged(tools: Toolchain, unit: Unit, table: Bench, *, with_coverage: bool) -> Report:
    timeout = f"--timeout={_TEST_TIMEOUT_S}s"
    judging = [table.run(tools, "test", "--format=json", timeout)]
    if with_coverage:
        judging.append(table.run(tools, "test", "--format=json", timeout, "--coverage"))
    judged, *covered = await asyncio.gather(*judging)
    results = await asyncio.to_thread(_results, judged, table.names)
    if results is None:
        return Report(findings=await _unloadable(tools, unit, table, judged))
    coverage = [each for output in covered for each in _coverage(output, table.names)]
    return Report(results, coverage)


def _results(output: Output, names: Mapping[str, str]) -> list[Result] | None:
    """None where the texts could not be loaded together."""
    report = output.report()
    if isinstance(report, list):
        results = [_result(entry, names) for entry in report]
        return sorted(results, key=lambda result: (result.file, result.line, result.name))
    return [] if output.text.strip() in ("", "null") else None


def _result(entry: Mapping[str, Any], names: Mapping[str, str]) -> Result:
    place = entry["location"]
    failure = "failed" if entry.get("fail") else ""
    if error := entry.get("error"):
        said = str(error.get("message", error))
        is_late = _LATE.search(said) is not None
        failure = f"takes more than {_TEST_TIMEOUT_S} s" if is_late else f"could not be evaluated: {said}"
    return Result(
        names.get(place["file"], place["file"]), place["row"], entry["package"], entry["name"],
        failure, bool(entry.get("skip")),
        base64.b64decode(entry.get("output") or "").decode("utf-8", "replace"),
    )  # fmt: skip


def _coverage(output: Output, names: Mapping[str, str]) -> list[Coverage]:
    report = output.report()
    if output.exit_code or not isinstance(report, dict):
        return []
    return [
        Coverage(
            names[file],
            _rows(about.get("covered")) | _rows(about.get("not_covered")),
            # What OPA passed over only because an index, or an answer that was found, spared it the work, is covered.
            _rows(each for each in about.get("not_covered") or [] if not each.get("kinds")),
        )
        for file, about in report["files"].items()
        if file in names
    ]


def _rows(places: Iterable[Mapping[str, Any]] | None) -> frozenset[int]:
    return frozenset(place["start"]["row"] for place in places or [])


async def _unloadable(tools: Toolchain, unit: Unit, table: Bench, judged: Output) -> list[Finding]:
    """`opa test` gives its errors as text; `opa check` says the same in a form that can be read."""
    checked = await table.run(tools, "check", "--format=json", on_modules=True)
    if not checked.exit_code:
        last = judged.text.strip().rpartition("\n")[2]
        return [Finding(unit.sources[0].name, 0, 0, last or "OPA gave no reason", rule="opa/error")]
    return findings.in_order(
        finding
        for file, name in table.names.items()
        for finding in findings.of_output(checked, file, name)
        if finding.line
    ) or findings.of_output(checked, "", unit.sources[0].name)


async def _explained(
    tools: Toolchain, unit: Unit, table: Bench, results: Iterable[Result]
) -> dict[Result, Sequence[str]]:
    failed = [result for result in results if result.failure][:_MOST_EXPLAINED]
    if not failed:
        return {}
    sources = {
        file: Source.of(source.module, source.name)
        for file, source in zip(table.names, unit.sources, strict=True)
    }
    return {result: await _explanation(tools, table, sources, result) for result in failed}


async def _explanation(
    tools: Toolchain, table: Bench, sources: Mapping[str, Source], result: Result
) -> list[str]:
    parts = "".join(f"[{json.dumps(part)}]" for part in result.package.split(".")[1:])
    query = f"data{parts}[{json.dumps(result.name)}]"
    try:
        output = await table.eval(tools, query, *evaluation.EXPLAINED)
    except ToolLimitError:
        return []  # the trace is too long to be read
    events = (await asyncio.to_thread(evaluation.report, output)).get("explanation") or []
    clauses = await asyncio.to_thread(tracing.clauses, events, [result.name], None)
    return explaining.lines(clauses, sources)
