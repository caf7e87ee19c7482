"""`interlock policy test`: the author's tests, and which lines of the policies they reach."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from interlock.cli import policy_desk, show
from interlock.errors import Misconfigured
from policies.workbench import pairing, reports, testing
from policies.workbench.compiler import Compiler, over_limit
from policies.workbench.findings import Finding, TextRefusedError, in_order
from policies.workbench.pairing import Source, Unit
from policies.workbench.testing import Coverage, Report, Result
from policies.workbench.toolchain import Toolchain, ToolLimitError

DATA_FILES = ("data.json", "data.yaml", "data.yml")


def run(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Policies and their tests, also below.")
    ] = Path(),
    threshold: Annotated[
        float,
        typer.Option(min=0, max=100, metavar="PERCENT", help="Fail where less of the policies is covered."),
    ] = 0.0,
    output: show.Output = show.Format.TEXT,
) -> None:
    """Runs tests of policies with OPA, and shows which lines of each policy they reach.

    x_test.rego tests x.rego, whatever else is in the folder, so that policies may have equal packages; a test without
    such a policy stands beside all policies whose packages it names. Rego v0 and v1, the short names and `sanitized`
    are there as at the server. The exit code is 0 where there are tests and all passed.
    """
    if not folder.is_dir():
        raise Misconfigured(f"{folder} is no folder")
    texts = policy_desk.texts([folder])
    if not texts:
        raise Misconfigured(f"there is no *.rego in {folder}")
    outcome = _outcome(asyncio.run(_judged(texts, folder)))
    if output is show.Format.JSON:
        show.print_json(_plain(outcome))
    else:
        _print(outcome)
    if not outcome.results and not outcome.findings:
        show.note(f"there is no test in {folder}: name it x_test.rego, its rules test_…")
    if outcome.failed or outcome.findings or not outcome.results:
        raise typer.Exit(policy_desk.EXIT_FOUND)
    if outcome.percent < threshold:
        show.note(f"covered are {outcome.percent:.1f} %; at least {threshold:g} % are asked for")
        raise typer.Exit(policy_desk.EXIT_FOUND)


@dataclass(frozen=True)
class Outcome:
    """Of all units together; the coverage is that of policies, not of tests."""

    results: Sequence[Result]
    findings: Sequence[Finding]
    coverage: Sequence[Coverage]
    explanations: Mapping[Result, Sequence[str]]

    @property
    def failed(self) -> int:
        return sum(bool(result.failure) for result in self.results)

    @property
    def percent(self) -> float:
        lines = sum(len(each.lines) for each in self.coverage)
        missed = sum(len(each.missed) for each in self.coverage)
        return 100.0 * (lines - missed) / lines if lines else 100.0


def _outcome(judged: Sequence[tuple[Unit | None, Report]]) -> Outcome:
    tests = {source.name for unit, _ in judged if unit for source in unit.sources if source.is_test}
    return Outcome(
        [result for _, report in judged for result in report.results],
        in_order(finding for _, report in judged for finding in report.findings),
        testing.merged(each for _, report in judged for each in report.coverage if each.file not in tests),
        {result: lines for _, report in judged for result, lines in report.explanations.items()},
    )


async def _judged(texts: Sequence[policy_desk.Text], folder: Path) -> list[tuple[Unit | None, Report]]:
    tools = policy_desk.toolchain()
    compiler = Compiler(tools)
    parsed = await asyncio.gather(*(_parsed(compiler, text, folder) for text in texts))
    found = [finding for each in parsed if isinstance(each, list) for finding in each]
    units = pairing.units([each for each in parsed if isinstance(each, Source)])
    data = _data_files(folder)
    judged = await asyncio.gather(*(_report(tools, unit, data) for unit in units))
    return [(None, Report(findings=found)), *zip(units, judged, strict=True)]


async def _parsed(compiler: Compiler, text: policy_desk.Text, folder: Path) -> Source | list[Finding]:
    try:
        module = await compiler.parse(text.body, text.name)
        return Source(Path(text.name).relative_to(folder).as_posix(), module, text.name)
    except TextRefusedError as refused:
        return list(refused.findings)
    except ToolLimitError as error:
        return [over_limit(error, text.name)]


async def _report(tools: Toolchain, unit: Unit, data: Mapping[str, str]) -> Report:
    try:
        return await testing.run(tools, unit, data)
    except ToolLimitError as error:
        return Report(findings=[over_limit(error, unit.sources[0].name)])


def _data_files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): policy_desk.read(path)
        for name in DATA_FILES
        for path in sorted(folder.rglob(name))
    }


def _print(outcome: Outcome) -> None:
    policy_desk.print_findings(outcome.findings, policy_desk.Format.TEXT)
    for result in outcome.results:
        if result.failure:
            print(show.visible(f"{result.file}:{result.line}: {result.name} {result.failure}"))
            for line in result.printed.splitlines():
                print(show.visible(f"  prints {line}"))
            for line in outcome.explanations.get(result, ()):
                print(show.visible(f"  {line}"))
        elif result.is_skipped:
            print(show.visible(f"{result.file}:{result.line}: {result.name} is skipped"))
    for each in outcome.coverage:
        missed = f"\tnot covered: {ranges(each.missed)}" if each.missed else ""
        print(f"{show.visible(each.file)}\t{each.percent:.1f} %{missed}")
    skipped = sum(result.is_skipped for result in outcome.results)
    covered = f", {outcome.percent:.1f} % covered" if outcome.coverage else ""
    passed = len(outcome.results) - outcome.failed - skipped
    show.note(f"{passed} passed, {outcome.failed} failed, {skipped} skipped{covered}")


def ranges(lines: Iterable[int]) -> str:
    """`4-6, 9`."""
    numbered = [(line, line - place) for place, line in enumerate(sorted(lines))]
    runs = [[line for line, _ in run] for _, run in groupby(numbered, key=lambda each: each[1])]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "tests": [
            {**asdict(result), "explanation": list(outcome.explanations.get(result, ()))}
            for result in outcome.results
        ],
        "findings": reports.plain(outcome.findings),
        "coverage": [
            {"file": each.file, "percent": round(each.percent, 1), "missed": sorted(each.missed)}
            for each in outcome.coverage
        ],
        "percent": round(outcome.percent, 1),
    }
