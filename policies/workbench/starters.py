"""A policy to start from, of each kind, with its test and a sample input."""

from __future__ import annotations

import re
from typing import Final

from policies.workbench import library
from policies.workbench.kinds import Kind

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
# Words of Rego, names that are reserved, and a name that would make the policy its own test.
_TAKEN: Final = frozenset(
    {
        "as",
        "contains",
        "data",
        "default",
        "else",
        "every",
        "false",
        "if",
        "import",
        "in",
        "input",
        "interlock",
    }
    | {"not", "null", "package", "set", "some", "system", "true", "with"}
)


class BadNameError(ValueError):
    """The name cannot be a package's; the message says why."""


def starter(kind: Kind, name: str) -> dict[str, str]:
    """Texts by file name: `NAME.rego` in the package NAME, `NAME_test.rego`, and `NAME.json`, which it can be given.

    Raises:
        BadNameError: the name is none for a package.
    """
    if not _NAME.fullmatch(name):
        raise BadNameError(f"{name!r} is no name for a policy: small letters, digits and _ only")
    if name in _TAKEN or name.endswith("_test"):
        raise BadNameError(f"{name!r} cannot be a policy's name; choose another")
    placeholder = f"starter_{kind.value}"
    return {
        file.replace(placeholder, name): text.replace(placeholder, name)
        for file, text in library.starter(kind).items()
    }


def annotation(kind: Kind) -> str:
    """What tells OPA and language servers of which kind the input is; it stands right before the package."""
    return f"# METADATA\n# schemas:\n#   - input: schema.{kind.value}\n"
