"""From OPA's account of a failed evaluation to a sentence in the author's terms. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from control_plane.policies.bundle import policy_of

_PLACE = re.compile(r"(policies/[a-z0-9-]+\.rego):(\d+)")
_PACKAGE = re.compile(r'data\.interlock\.policies(\["[^"]+"\]|\.[a-z0-9_]+)\.')


def cause(report: dict[str, Any], author_line: Callable[[str, int], int]) -> str:
    """The first error, at the author's line where OPA names one.

    `author_line` gives the author's line for a policy's id and a line of its loaded module.
    """

    def place(match: re.Match[str]) -> str:
        policy_id = policy_of(match[1])
        return f"line {author_line(policy_id, int(match[2]))}" if policy_id else match[0]

    for error in report.get("errors") or []:
        location = error.get("location") or {}
        message = _PLACE.sub(place, _PACKAGE.sub("", f"{error.get('code')}: {error.get('message')}"))
        policy_id = policy_of(location.get("file", ""))
        if policy_id is None:
            return message
        return f"line {author_line(policy_id, location.get('row', 0))}: {message}"
    return str(report.get("message", "OPA gave no reason"))
