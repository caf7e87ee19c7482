"""Regal's lint, where the author or the server has it: advice, never a refusal."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from policies.workbench.findings import Finding, Severity, in_order
from policies.workbench.toolchain import ToolLimitError, lay, run_limited

_MAKER: Final = "regal"
_LINTED_FILE: Final = "policy.rego"
# Every policy is loaded into a package of its own, whatever its folder is called, and its kind says what is asked.
_NOT_MEANT: Final = ("directory-package-mismatch", "no-defined-entrypoint")
_OFFLINE: Final = {"REGAL_DISABLE_VERSION_CHECK": "1"}


class RegalError(Exception):
    """Regal was named and cannot be run, or did not finish; the message says why."""


def find_regal(environment: Mapping[str, str] = os.environ) -> Path | None:
    """INTERLOCK_REGAL, else `regal` on PATH, else None.

    Raises:
        RegalError: INTERLOCK_REGAL names something that is not executable.
    """
    if named := environment.get("INTERLOCK_REGAL"):
        path = Path(named)
        if not os.access(path, os.X_OK) or path.is_dir():
            raise RegalError(f"INTERLOCK_REGAL names {named}, which is no executable file")
        return path
    on_path = shutil.which("regal", path=environment.get("PATH", os.defpath))
    return Path(on_path) if on_path else None


async def lint_text(regal: Path, text: str, name: str) -> list[Finding]:
    """What Regal says of one text that parses, called `name`; that it says nothing is a finding, too."""
    with tempfile.TemporaryDirectory(prefix="interlock-policy-") as folder:
        lay(folder, {_LINTED_FILE: text})
        try:
            return [replace(each, file=name) for each in await lint(regal, [_LINTED_FILE], folder)]
        except (RegalError, ToolLimitError) as error:
            return [Finding(name, 0, 0, str(error), "", f"{_MAKER}/error", Severity.WARNING)]


async def lint(regal: Path, files: Sequence[str], folder: str | None = None) -> list[Finding]:
    """What Regal says of these files, by the configuration that it finds for them; they are named from `folder`.

    Raises:
        RegalError: it did not get as far as a report.
        ToolLimitError: it took too long or too much memory.
    """
    command = [str(regal), "lint", "--format=json", *(f"--disable={rule}" for rule in _NOT_MEANT), *files]
    output = await run_limited(command, folder, environment={**os.environ, **_OFFLINE})
    # Its warnings about itself come first, on standard error; the report is the last object that begins a line.
    text = f"\n{output.text}"
    try:
        return of_report(json.loads(text[text.rfind("\n{\n") + 1 :]))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        said = output.text.strip().splitlines()[-1:] or [f"it ended with exit code {output.exit_code}"]
        raise RegalError(f"Regal gave no report that is understood: {said[0]}") from error


def of_report(report: Mapping[str, Any]) -> list[Finding]:
    """Each violation of Regal's JSON report as a warning; the hint is where Regal explains its rule."""
    if errors := report.get("errors"):
        raise RegalError(f"Regal gave no report: {errors[0].splitlines()[0]}")
    return in_order(
        Finding(
            violation["location"]["file"],
            violation["location"].get("row", 0),
            violation["location"].get("col", 0),
            violation["description"],
            next((each["ref"] for each in violation.get("related_resources") or [] if each.get("ref")), ""),
            f"{_MAKER}/{violation['category']}/{violation['title']}",
            Severity.WARNING,
        )
        for violation in report.get("violations") or []
    )
