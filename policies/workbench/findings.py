"""From OPA's error reports to findings at the author's lines, with a hint where one helps. Pure."""

from __future__ import annotations

import difflib
import enum
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from policies.workbench import library
from policies.workbench.kinds import Kind
from policies.workbench.toolchain import Output

_BUILTIN_HINTS = {
    "http.send": "policies have no network",
    "net.lookup_ip_addr": "policies have no network",
    "json.match_schema": "it could read a schema from the network",
    "json.verify_schema": "it could read a schema from the network",
    "opa.runtime": "policies see only their input",
    "rego.parse_module": "policies see only their input",
    "time.now_ns": "use input.request.timestamp_ns, so that a decision can be repeated",
    "trace": "use print",
}

_MOST_PARTS = 20
PARSE_ERROR = "opa/rego_parse_error"


class Severity(enum.Enum):
    """An error refuses the text; a warning is advice."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a text; line and column count from 1, 0 where they are not known.

    `rule` says for programs what was broken, by whose word: "opa/rego_type_error", "interlock/reserved-name".
    """

    file: str
    line: int
    column: int
    message: str
    hint: str = ""
    rule: str = "interlock/form"
    severity: Severity = Severity.ERROR

    @property
    def is_opas(self) -> bool:
        """OPA found it, not Interlock."""
        return self.rule.startswith("opa/")

    def mentions(self, names: Iterable[str]) -> bool:
        """Whether one of these names is a word of the message."""
        return any(re.search(rf"\b{re.escape(name)}\b", self.message) for name in names)

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class TextRefusedError(Exception):
    """The text does not parse, type-check or keep to what a policy may use."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(map(str, self.findings)))


def of_form(text: str, max_bytes: int, file: str) -> list[Finding]:
    """What is wrong with a text before anything parses it."""
    if not text.strip():
        return [Finding(file, 0, 0, "the policy is empty", "begin with `package spacelift`")]
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return [Finding(file, 0, 0, "the policy is not valid UTF-8")]
    if size > max_bytes:
        return [Finding(file, 0, 0, f"the policy has {size} bytes; at most {max_bytes} are allowed")]
    if (index := text.find("\0")) >= 0:
        before = text[:index]
        line, column = before.count("\n") + 1, index - before.rfind("\n")
        return [Finding(file, line, column, "the policy contains a NUL character")]
    return []


def of_output(
    output: Output, checked_file: str, file: str, *, lines: int | None = None, kind: Kind | None = None
) -> list[Finding]:
    """The errors of a failed command that concern `checked_file`; never empty.

    Errors past `lines` or in another file are about what was added to the author's text: they have no line.
    """
    report = output.report()
    errors: list[dict[str, Any]] = report.get("errors", []) if isinstance(report, dict) else []
    found: dict[Finding, None] = {}
    elsewhere = []
    for error in errors:
        if kind is not None and error["message"] == f"undefined schema: schema.{kind.value}":
            continue  # an annotation for language servers; the kind's schema is what was checked against
        location = error.get("location") or {}
        line = location.get("row", 0)
        if location.get("file") != checked_file or (lines is not None and line > lines):
            elsewhere.append(error["message"])
            continue
        message, hint = _explained(error)
        column, rule = location.get("col", 0) if line else 0, f"opa/{error.get('code', 'error')}"
        found[Finding(file, line, column, message, hint, rule)] = None
    if found:
        return in_order(found)
    if errors and not elsewhere:
        return []
    first = elsewhere[0] if elsewhere else output.text.strip().splitlines()[-1:] or ["OPA gave no reason"]
    return [Finding(file, 0, 0, first if isinstance(first, str) else first[0], rule="opa/error")]


def of_formatter(output: Output, checked_file: str, file: str) -> list[Finding]:
    """What `opa fmt` says of a text that it cannot convert; it knows no columns. May be empty."""
    named = re.compile(rf"(?:^|: ){re.escape(checked_file)}:(\d+): (rego_\w+): (.*)$", re.MULTILINE)
    return [
        Finding(file, int(line), 0, message, rule=f"opa/{code}")
        for line, code, message in named.findall(output.text)
    ]


def in_order(found: Iterable[Finding]) -> list[Finding]:
    """Each once, from the top of the text to its end."""
    return sorted(dict.fromkeys(found), key=lambda finding: (finding.file, finding.line, finding.column))


def _explained(error: dict[str, Any]) -> tuple[str, str]:
    message: str = error["message"]
    details = error.get("details") or {}
    if message.startswith("undefined function "):
        name = message.removeprefix("undefined function ")
        if name in _BUILTIN_HINTS:
            return f"the built-in function {name} is not available to policies", _BUILTIN_HINTS[name]
        return message, nearest(name, library.allowed_builtins())
    if "ref" in details and "oneOf" in details:
        path = "".join(map(_part, details["ref"][:_MOST_PARTS])).removeprefix(".")
        name = str(details["ref"][details["pos"]]["value"])
        known = [str(value) for value in details["oneOf"]]
        return f"undefined field {name!r} in {path}", nearest(name, known) or f"one of: {', '.join(known)}"
    if message == "match error" and "a" in details and "b" in details:
        left, right = (_type_name(details[side]) for side in ("a", "b"))
        return f"match error: {left} on the left never equals {right} on the right", ""
    return message, ""


def _part(term: dict[str, Any]) -> str:
    """One part of a path as its author may have written it; OPA has names of its own for `_`."""
    value = term["value"]
    if term["type"] == "var" and term.get("value") not in ("input", "data"):
        return "[_]" if str(value).startswith(("$", "__local")) else f"[{value}]"
    is_name = isinstance(value, str) and value.isidentifier()
    return f".{value}" if is_name else f"[{json.dumps(value)}]"


def nearest(name: str, known: Any) -> str:
    """`did you mean …?` where a known name is near, else nothing."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def _type_name(rego_type: dict[str, Any]) -> str:
    return str(rego_type.get("type", "any"))
