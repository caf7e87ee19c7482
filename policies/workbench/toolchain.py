"""The `opa` command: found, and run on one author's text in a process of its own with limits."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.workbench import library

# Where scripts/opa.py puts it in a checkout.
_CACHED = Path(__file__).parents[2] / ".cache" / "bin" / "opa"
# A text of 256 KiB takes below 1 s and 300 MB; these end what is hostile.
_TIMEOUT_S = 10.0
_CPU_LIMIT_S = 10
_MEMORY_LIMIT_BYTES = 1 << 30
_THREAD_STACK_BYTES = 1 << 20
_OUTPUT_LIMIT_BYTES = 32 << 20
_COMMANDS_AT_ONCE = 2
# Go's last words. A policy may print the like, but not at the beginning of a line of its own.
_NO_MEMORY = re.compile(r"^fatal error: .*(?:out of memory|cannot allocate memory)", re.MULTILINE)


class OpaNotFoundError(Exception):
    """There is no `opa`; the message says how to get it."""


class ToolLimitError(Exception):
    """A command went over its time, memory or output; the message says which."""


@dataclass(frozen=True)
class Output:
    """What a command left: its exit code, and its standard output and error as one text."""

    exit_code: int
    text: str

    def report(self) -> Any:
        """The text as JSON, None where it is none."""
        try:
            return json.loads(self.text)
        except json.JSONDecodeError:
            return None
        except RecursionError as error:
            raise ToolLimitError("it is nested too deeply") from error


def find_opa(environment: Mapping[str, str] = os.environ) -> Path:
    """INTERLOCK_OPA, else `opa` on PATH, else in the project's cache (`.cache/bin/opa`).

    Raises:
        OpaNotFoundError: there is none, or INTERLOCK_OPA names something that is not executable.
    """
    if named := environment.get("INTERLOCK_OPA"):
        path = Path(named)
        if not os.access(path, os.X_OK) or path.is_dir():
            raise OpaNotFoundError(f"INTERLOCK_OPA names {named}, which is no executable file")
        return path
    if on_path := shutil.which("opa", path=environment.get("PATH", os.defpath)):
        return Path(on_path)
    if os.access(_CACHED, os.X_OK):
        return _CACHED
    raise OpaNotFoundError(
        "no `opa` found: put OPA 1.x on PATH or name it in INTERLOCK_OPA; "
        "beside INTERLOCK_OPA_URL, too, since uploads are checked with it"
    )


def limited(command: Sequence[str], *, memory_bytes: int, cpu_s: int | None = None) -> list[str]:
    """The command under a memory limit, killed with its parent; as it is where Linux's tools are not there.

    The limit is on data (RLIMIT_DATA), since Go reserves far more address space than it uses. A thread's stack counts
    whole, 8 MiB by default, so that threads alone would fill a small limit: OPA needs less than 1 MiB each.
    """
    prlimit, setpriv = shutil.which("prlimit"), shutil.which("setpriv")
    if prlimit is None or setpriv is None:
        return list(command)
    cpu = [] if cpu_s is None else [f"--cpu={cpu_s}"]
    limits = [f"--data={memory_bytes}", f"--stack={_THREAD_STACK_BYTES}", "--core=0", *cpu]
    return [prlimit, *limits, setpriv, "--pdeathsig", "KILL", *command]


class Toolchain:
    """Runs `opa` commands with the built-ins that policies may call. One per control plane."""

    def __init__(self, opa: Path) -> None:
        self.opa = opa
        self._capabilities: dict[frozenset[str] | None, str] = {}
        # Uploads wait for each other rather than take the machine from everything else.
        self._turns = asyncio.Semaphore(_COMMANDS_AT_ONCE)

    async def run(self, *arguments: str, files: Mapping[str, str]) -> Output:
        """`opa ARGUMENTS` in a folder that holds just these files.

        Raises:
            ToolLimitError: it took too long, too much memory or wrote too much.
        """
        with tempfile.TemporaryDirectory(prefix="interlock-policy-") as folder:
            lay(folder, files)
            async with self._turns:
                return await self._run(arguments, folder)

    async def capabilities(self) -> str:
        """This OPA's capabilities file, cut down to the allowed built-ins and without network."""
        return await self._capabilities_of(library.allowed_builtins())

    async def all_builtins(self) -> str:
        """As `capabilities`, with every built-in that there is: to look for what else is wrong with a text."""
        return await self._capabilities_of(None)

    async def _capabilities_of(self, allowed: frozenset[str] | None) -> str:
        if allowed not in self._capabilities:
            output = await self._run(["capabilities", "--current"], None)
            capabilities = output.report()
            if allowed is not None:
                capabilities["builtins"] = [
                    builtin for builtin in capabilities["builtins"] if builtin["name"] in allowed
                ]
            capabilities["allow_net"] = []
            self._capabilities[allowed] = json.dumps(capabilities)
        return self._capabilities[allowed]

    async def _run(self, arguments: Sequence[str], folder: str | None) -> Output:
        return await run_limited([str(self.opa), *arguments], folder)


async def run_limited(
    command: Sequence[str], folder: str | None, *, environment: Mapping[str, str] | None = None
) -> Output:
    """Runs a command in `folder`, within the limits that a hostile text does not get past.

    Raises:
        ToolLimitError: it took too long, too much memory or wrote too much.
    """
    process = await asyncio.create_subprocess_exec(
        *limited(command, memory_bytes=_MEMORY_LIMIT_BYTES, cpu_s=_CPU_LIMIT_S),
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            text = await _read(process.stdout)
            exit_code = await process.wait()
    except TimeoutError as error:
        raise ToolLimitError(f"checking it takes more than {_TIMEOUT_S:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if exit_code in (-signal.SIGXCPU, -signal.SIGKILL):
        raise ToolLimitError(f"checking it takes more than {_CPU_LIMIT_S} s")
    if exit_code and _NO_MEMORY.search(text):
        raise ToolLimitError("checking it takes too much memory")
    return Output(exit_code, text)


def lay(folder: str, files: Mapping[str, str]) -> None:
    """Writes texts below a folder, as they are."""
    for name, text in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")


async def _read(stream: asyncio.StreamReader) -> str:
    chunks: list[bytes] = []
    size = 0
    while chunk := await stream.read(1 << 16):
        size += len(chunk)
        if size > _OUTPUT_LIMIT_BYTES:
            raise ToolLimitError("it is nested too deeply")
        chunks.append(chunk)
    return b"".join(chunks).decode("utf-8", "replace")
