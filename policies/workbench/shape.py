"""Whether an author's own input has only fields that a real one has. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.workbench.findings import nearest


def unknown_fields(schema: Mapping[str, Any], document: Any, path: str = "input") -> Iterator[str]:
    """One sentence for each field that no input of the kind has. What is left out is no fault: few rules need all."""
    if isinstance(document, list):
        for each in document:
            yield from unknown_fields(schema.get("items", {}), each, f"{path}[_]")
        return
    known = _fields(schema)
    if not isinstance(document, Mapping) or not known:
        return
    for name, value in document.items():
        if name in known:
            yield from unknown_fields(known[name], value, f"{path}.{name}")
        else:
            hint = nearest(name, known) or f"one of: {', '.join(sorted(known))}"
            yield f"no real input has {path}.{name}; {hint}"


def _fields(schema: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Of all the forms that it may have."""
    found = dict(schema.get("properties", {}))
    for form in [*schema.get("anyOf", []), *schema.get("oneOf", [])]:
        found.update(_fields(form))
    return found
