"""What an OPA holds to decide: the dispatcher, the helpers, every policy; as files to start from, or as changes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control_plane.policies.connection import ChangeError, Connection
from policies.workbench import library

_LIBRARY_FOLDER = "interlock"
_POLICY_FOLDER = "policies"
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own with mode 0700 is made in it
_FILE_BYTES = 8192
_BLAMED = re.compile(rf"\b{_POLICY_FOLDER}/([^/\s:]+)\.rego:\d+: rego_")


@dataclass(frozen=True)
class Contents:
    """`modules` are rendered, by policy id. `sanitizer_key` is the key of `sanitized`."""

    sanitizer_key: str
    modules: Mapping[str, str]


def policy_path(policy_id: str) -> str:
    """The policy's id within OPA, which is also its file's name at start."""
    return f"{_POLICY_FOLDER}/{policy_id}.rego"


def policy_of(path: str) -> str | None:
    """The policy's id for a path that OPA names in an error."""
    folder, _, file = path.rpartition("/")
    return file.removesuffix(".rego") if folder == _POLICY_FOLDER else None


def policies_named(output: str) -> set[str]:
    """Ids of the policies that OPA's account of a failed start blames."""
    return set(_BLAMED.findall(output))


def scratch_folder(contents: Contents) -> Path | None:
    """Where to write: in memory if there is room, else None for the usual temporary folder.

    A busy disk takes 1 s for 1000 small files, memory 0.03 s; and what is in memory leaves no key on a disk.
    """
    needed = sum(_FILE_BYTES + 2 * len(text) for text in contents.modules.values()) + (1 << 20)
    if not os.access(_IN_MEMORY, os.W_OK) or shutil.disk_usage(_IN_MEMORY).free < needed:
        return None
    return _IN_MEMORY


def write(folder: Path, contents: Contents, *, instance: str, token: str) -> None:
    """The files that OPA starts from. Blocks."""
    for path, text in _library_modules().items():
        _write(folder / path, text)
    _write(folder / "authz.rego", library.authz())
    token_sha256 = hashlib.sha256(token.encode()).hexdigest()
    data = {**_data(contents, instance), "token_sha256": token_sha256}
    _write(folder / "data.json", json.dumps({"interlock": data}))
    policies = folder / _POLICY_FOLDER
    policies.mkdir()
    for policy_id, text in contents.modules.items():
        (folder / policy_path(policy_id)).write_text(text, encoding="utf-8", newline="")


async def push(connection: Connection, contents: Contents, held: dict[str, str]) -> dict[str, str]:
    """Make a running OPA hold just this, one policy after the other, each of which it compiles with all before.

    `held` is what it is known to hold, by path; empty where that is not known. It is kept up to date. Returns the
    policies that it cannot load, each with the reason.
    """
    modules = {policy_path(policy_id): text for policy_id, text in contents.modules.items()}
    for path in list(held) or await connection.policy_paths():
        if policy_of(path) is not None and path not in modules:
            await connection.delete_policy(path)
            held.pop(path, None)
    if not held:
        await connection.put_data("interlock", _data(contents, connection.instance))
    refused: dict[str, str] = {}
    for path, text in {**_library_modules(), **modules}.items():
        if held.get(path) == text:
            continue
        try:
            await connection.put_policy(path, text)
            held[path] = text
        except ChangeError as error:
            if (policy_id := policy_of(path)) is None:
                raise
            refused[policy_id] = str(error)
    return refused


def _library_modules() -> dict[str, str]:
    texts = {**library.helpers(), "dispatcher.rego": library.dispatcher()}
    return {f"{_LIBRARY_FOLDER}/{name}": text for name, text in texts.items()}


def _data(contents: Contents, instance: str) -> dict[str, Any]:
    return {"instance": instance, "sanitizer_key": contents.sanitizer_key}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")
