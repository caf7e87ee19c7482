"""Findings as text, as JSON and as SARIF, for people, programs and code hosts. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

from policies.workbench.findings import Finding, Severity

_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def as_text(found: Iterable[Finding]) -> str:
    """`file:line:column: message`, with what to do below it."""
    lines = []
    for finding in found:
        warned = "warning: " if finding.severity is Severity.WARNING else ""
        lines.append(f"{place(finding)}: {warned}{finding.message}")
        if finding.hint:
            lines.append(f"  {finding.hint}")
    return "\n".join(lines)


def place(finding: Finding) -> str:
    """As much of `file:line:column` as is known."""
    known = [str(each) for each in (finding.line, finding.column) if each]
    return ":".join([finding.file, *known])


def as_json(found: Iterable[Finding]) -> str:
    return json.dumps(plain(found), indent=2, ensure_ascii=False)


def plain(found: Iterable[Finding]) -> list[dict[str, Any]]:
    return [{**vars(finding), "severity": finding.severity.value} for finding in found]


def as_sarif(found: Sequence[Finding], version: str) -> str:
    """SARIF 2.1.0, as code hosts show it beside the changed lines."""
    driver = {
        "name": "interlock",
        "version": version,
        "rules": [{"id": rule} for rule in sorted({finding.rule for finding in found})],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding) for finding in found],
    }
    return json.dumps(
        {"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False
    )


def _result(finding: Finding) -> dict[str, Any]:
    text = f"{finding.message} ({finding.hint})" if finding.hint else finding.message
    location: dict[str, Any] = {"artifactLocation": {"uri": PurePath(finding.file).as_posix()}}
    if finding.line:
        column = {"startColumn": finding.column} if finding.column else {}
        location["region"] = {"startLine": finding.line, **column}
    return {
        "ruleId": finding.rule,
        "level": finding.severity.value,
        "message": {"text": text},
        "locations": [{"physicalLocation": location}],
    }
