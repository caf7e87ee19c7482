"""The OPA that decides: a supervised child on a loopback port, or one that runs elsewhere.

Either is reached by `connected()`. While there is none, nobody is allowed anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import socket
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import structlog

from control_plane.policies import bundle
from control_plane.policies.connection import Connection, ConnectionLostError
from control_plane.policies.errors import OpaUnavailable
from policies.workbench.toolchain import limited

log = structlog.get_logger(__name__)

DEFAULT_DEADLINE_S = 1.5
# Holds 10 000 policies (326 MB) and a second copy while they are compiled anew.
DEFAULT_MEMORY_BYTES = 2 << 30
DEFAULT_START_TIMEOUT_S = 15.0

_READY_POLL_S = 0.01
# One that died within this time of its start is started again only after a pause.
_SHORT_LIFE_S = 5.0
_LONGEST_PAUSE_S = 2.0
_PROBE_TIMEOUT_S = 2.0
_PROBE_PAUSE_S = 0.1

ContentsSource = Callable[[], bundle.Contents]


class Opa(Protocol):
    """An OPA, as the engine needs it."""

    async def start(self, contents: ContentsSource) -> None:
        """Returns when it decides with what `contents` gives; it is asked again at every restart.

        Raises:
            OpaUnavailable: it does not start.
        """

    async def stop(self) -> None: ...

    async def connected(self) -> Connection:
        """The current connection; waits while there is none."""

    def suspect(self, connection: Connection) -> None:
        """The connection failed or was late: see whether its OPA still is in order."""


class SupervisedOpa:
    """A child process under a memory limit, started again when it dies, killed when this process dies."""

    def __init__(
        self,
        opa: Path,
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        start_timeout_s: float = DEFAULT_START_TIMEOUT_S,
    ) -> None:
        self._opa = opa
        self._deadline_s = deadline_s
        self._memory_bytes = memory_bytes
        self._start_timeout_s = start_timeout_s
        self._connected: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._last_output: deque[str] = deque(maxlen=20)

    @property
    def pid(self) -> int | None:
        """Of the running child."""
        return self._process.pid if self._process else None

    async def start(self, contents: ContentsSource) -> None:
        self._supervisor = asyncio.create_task(self._supervise(contents), name="opa-supervisor")
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await self.connected()
        except TimeoutError as error:
            await self.stop()
            raise OpaUnavailable(
                f"it does not start: {' '.join(self._last_output) or 'no output'}"
            ) from error

    async def stop(self) -> None:
        for task in (self._probe, self._supervisor):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._probe = self._supervisor = None

    async def connected(self) -> Connection:
        return await asyncio.shield(self._connected)

    def suspect(self, connection: Connection) -> None:
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._kill_unless_healthy(connection), name="opa-probe")

    async def _supervise(self, contents: ContentsSource) -> None:
        pause_s = 0.0
        while True:
            started = time.monotonic()
            try:
                await self._run_once(contents)
            except Exception:  # a boundary: whatever it was, without OPA nobody may do anything, so try again
                log.exception("opa.supervision_failed")
            if time.monotonic() - started > _SHORT_LIFE_S:
                pause_s = 0.0
            await asyncio.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s + 0.1)

    async def _run_once(self, contents: ContentsSource) -> None:
        """One life of the child, from its start to its death."""
        token, instance, port = secrets.token_urlsafe(32), secrets.token_urlsafe(16), _free_port()
        connection = Connection(
            "127.0.0.1", port, token=token, instance=instance, deadline_s=self._deadline_s
        )
        given = contents()
        with tempfile.TemporaryDirectory(
            prefix="interlock-opa-", dir=bundle.scratch_folder(given), ignore_cleanup_errors=True
        ) as name:
            folder = Path(name)
            await asyncio.to_thread(bundle.write, folder, given, instance=instance, token=token)
            process = await self._spawn(folder, port)
            async with connection, self._living(process), asyncio.TaskGroup() as group:
                group.create_task(self._keep_output(process))
                announcing = group.create_task(self._announce(connection, folder))
                await process.wait()
                announcing.cancel()
        log.error("opa.died", exit_code=process.returncode, last_output="\n".join(self._last_output))

    @contextlib.asynccontextmanager
    async def _living(self, process: asyncio.subprocess.Process) -> AsyncIterator[None]:
        """However it ends, the child is dead afterwards and nobody is given its connection any more."""
        self._process = process
        try:
            yield
        finally:
            self._process = None
            if self._connected.done():
                self._connected = asyncio.get_running_loop().create_future()
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _spawn(self, folder: Path, port: int) -> asyncio.subprocess.Process:
        command = [
            str(self._opa), "run", "--server", f"--addr=127.0.0.1:{port}",
            "--authentication=token", "--authorization=basic",
            "--skip-version-check", "--log-level=error", ".",
        ]  # fmt: skip
        return await asyncio.create_subprocess_exec(
            *limited(command, memory_bytes=self._memory_bytes),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            # Collect before the limit is hit: a limit that is reached ends the process.
            env={"GOMEMLIMIT": str(self._memory_bytes * 3 // 4), "HOME": str(folder)},
        )

    async def _announce(self, connection: Connection, folder: Path) -> None:
        """Once it serves, it has read its files; they hold keys, so they go."""
        while not await connection.is_healthy():
            await asyncio.sleep(_READY_POLL_S)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        log.info("opa.started", pid=self.pid)
        self._connected.set_result(connection)

    async def _keep_output(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        self._last_output.clear()
        async for line in process.stderr:
            self._last_output.append(line.decode("utf-8", "replace").rstrip())

    async def _kill_unless_healthy(self, connection: Connection) -> None:
        """A dead one is noticed by `_run_once`; this is for one that lives and does not answer."""
        process = self._process
        with contextlib.suppress(TimeoutError, ConnectionLostError):
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                while not await connection.is_healthy():
                    await asyncio.sleep(_PROBE_PAUSE_S)
                return
        if process is not None and process is self._process and process.returncode is None:
            log.error("opa.hangs", pid=process.pid)
            process.kill()


def _free_port() -> int:
    """Free a moment ago. Another process that takes it makes the child die and be started on the next one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
