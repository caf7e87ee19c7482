"""The files of policies/: the modules loaded beside every policy, the schemas, the allowed built-ins."""

from __future__ import annotations

import functools
import importlib.resources
import json

from policies.workbench.kinds import Kind

_ROOT = importlib.resources.files("policies")


def _text(*path: str) -> str:
    return _ROOT.joinpath(*path).read_text(encoding="utf-8")


@functools.cache
def helpers() -> dict[str, str]:
    """What a policy may call, by file name; valid as Rego v0 and v1."""
    return {name: _text("lib", name) for name in ("sanitized.rego", "v0.rego")}


@functools.cache
def dispatcher() -> str:
    return _text("lib", "dispatcher.rego")


@functools.cache
def authz() -> str:
    return _text("lib", "authz.rego")


@functools.cache
def schema(kind: Kind) -> str:
    """JSON Schema of the kind's input."""
    return _text("schemas", f"{kind.value}.json")


@functools.cache
def allowed_builtins() -> frozenset[str]:
    names: list[str] = json.loads(_text("builtins.json"))
    return frozenset(names)


@functools.cache
def starter(kind: Kind) -> dict[str, str]:
    """A policy to start from with its test and its sample, by file name."""
    name = f"starter_{kind.value}"
    return {
        file: _text("starters", kind.value, file)
        for file in (f"{name}.rego", f"{name}_test.rego", f"{name}.json")
    }
