"""One OPA process: it starts from the files of one bundle, never changes, and dies with this process.

Whatever it answers, it answers by the one set of policies that it was started with.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from control_plane.policies import bundle
from control_plane.policies.connection import Connection
from policies.workbench.toolchain import limited

_READY_POLL_S = 0.005
# Who got the connection just before the child was replaced has asked by then.
_LAST_ORDERS_S = 0.05
_LAST_LINES = 50
_LONGEST_LINE_BYTES = 1 << 20
# In Go's own words, where the limit on memory was reached.
_EXHAUSTED = (
    "out of memory", "cannot allocate memory", "cannot map pages", "failed to create new OS thread",
    "stack exceeds",
    # Where the runtime itself is refused a page, it does not always get to say so.
    "SIGSEGV",
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """`memory_bytes` ends the process, and so does `cpu_s` of processor time where it is given. `cores` is what it may
    keep busy, whatever it is asked; one that `gives_way` only has what nobody else on the machine wants."""

    memory_bytes: int
    cores: int = max(1, (os.cpu_count() or 1) - 1)
    gives_way: bool = False
    cpu_s: int | None = None


class ChildDiedError(Exception):
    """It ended before it served; `output` is what it said last."""

    def __init__(self, output: str) -> None:
        super().__init__(output or "it ended without a word")
        self.output = output


class Child:
    """Made by `start`; `stop` must be called in the end."""

    def __init__(self, process: asyncio.subprocess.Process, connection: Connection, folder: Path) -> None:
        self.connection = connection
        self.pid = process.pid
        self._process = process
        self._folder = folder
        self._started = time.monotonic()
        self._last_output: deque[str] = deque(maxlen=_LAST_LINES)
        self._life = asyncio.create_task(self._live(), name=f"opa-{process.pid}")

    @classmethod
    async def start(cls, opa: Path, contents: bundle.Contents, *, limits: Limits, deadline_s: float) -> Self:
        """Returns once it decides.

        Raises:
            ChildDiedError: it does not start.
        """
        token, instance, port = secrets.token_urlsafe(32), secrets.token_urlsafe(16), _free_port()
        connection = Connection("127.0.0.1", port, token=token, instance=instance, deadline_s=deadline_s)
        folder = Path(tempfile.mkdtemp(prefix="interlock-opa-", dir=bundle.scratch_folder(contents)))
        child = None
        try:
            await asyncio.to_thread(bundle.write, folder, contents, instance=instance, token=token)
            await connection.__aenter__()
            child = cls(await _spawn(opa, folder, port, limits), connection, folder)
            await child._until_ready()
        except BaseException:
            if child is not None:
                await child.stop()
            else:
                await connection.close()
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise
        return child

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    @property
    def last_output(self) -> str:
        return "\n".join(self._last_output)

    def cpu_s(self) -> float:
        """The processor time that it has used; where the system does not tell, the time that has passed."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError):
            return time.monotonic() - self._started

    async def died(self) -> None:
        """Returns once it is dead."""
        await asyncio.shield(self._life)

    def kill(self) -> None:
        if self.is_alive:
            self._process.kill()

    async def stop(self) -> None:
        """Kills it; nothing of it is left afterwards."""
        self.kill()
        await self._life
        await self.connection.close()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def retire(self, grace_s: float) -> None:
        """Stops it once what it was asked is answered, or `grace_s` seconds have passed."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await asyncio.sleep(_LAST_ORDERS_S)
                    await self.connection.idle()
        finally:
            await self.stop()

    async def _live(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            text = line.decode("utf-8", "replace").rstrip()
            self._last_output.append(text)
            if any(words in text for words in _EXHAUSTED):
                self.connection.was_exhausted = True
        await self._process.wait()
        self.connection.ended.set()

    async def _until_ready(self) -> None:
        while not await self._serves():
            await asyncio.sleep(_READY_POLL_S)
        # It has read its files, and they hold keys.
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _serves(self) -> bool:
        if self._life.done():
            raise ChildDiedError(self.last_output)
        return await self.connection.is_healthy()


async def _spawn(opa: Path, folder: Path, port: int, limits: Limits) -> asyncio.subprocess.Process:
    command = [
        str(opa), "run", "--server", f"--addr=127.0.0.1:{port}",
        "--authentication=token", "--authorization=basic",
        "--skip-version-check", "--log-level=error", ".",
    ]  # fmt: skip
    last_in_line = ["nice", "-n", "10"] if limits.gives_way and shutil.which("nice") else []
    return await asyncio.create_subprocess_exec(
        *last_in_line,
        *limited(command, memory_bytes=limits.memory_bytes, cpu_s=limits.cpu_s),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=_LONGEST_LINE_BYTES,
        env={
            # Collect before the limit is hit: a limit that is reached ends the process.
            "GOMEMLIMIT": str(limits.memory_bytes * 3 // 4),
            "GOMAXPROCS": str(limits.cores),
            "HOME": str(folder),
        },
    )


def _free_port() -> int:
    """Free a moment ago. Another process that takes it makes the child die and be started on the next one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
