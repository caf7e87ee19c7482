"""The OPA that decides: supervised children, one after the other, or one that runs elsewhere.

Either is reached by `connected()`. While there is none, nobody is allowed anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Protocol

import structlog

from control_plane.policies import bundle
from control_plane.policies.child import Child, ChildDiedError, Limits
from control_plane.policies.connection import Connection, ConnectionLostError
from control_plane.policies.errors import OpaUnavailable
from control_plane.policies.renewal import Renewals

log = structlog.get_logger(__name__)

DEFAULT_DEADLINE_S = 1.5
# Holds 10 000 policies (326 MB) several times over.
DEFAULT_MEMORY_BYTES = 2 << 30
DEFAULT_START_TIMEOUT_S = 15.0

# One that died within this time of its start is started again only after a pause.
_SHORT_LIFE_S = 5.0
_LONGEST_PAUSE_S = 2.0
_PROBE_TIMEOUT_S = 2.0
_PROBE_PAUSE_S = 0.1

ContentsSource = Callable[[], bundle.Contents]


class Opa(Protocol):
    """An OPA, as the engine needs it. What it holds is given by a source, asked anew whenever OPA is filled."""

    async def start(self, contents: ContentsSource) -> None:
        """Returns when it decides with what `contents` gives.

        Raises:
            OpaUnavailable: it does not start.
        """

    async def stop(self) -> None: ...

    async def renew(self) -> Mapping[str, str]:
        """Returns when every decision that begins afterwards is made with what the source gives now.

        Policies that OPA cannot load are left out: their ids, each with the reason, are returned. Waits while OPA is
        away; cancelled, it still holds the new contents as soon as it can.
        """

    async def connected(self) -> Connection:
        """The current connection; waits while there is none."""

    def suspect(self, connection: Connection) -> None:
        """The connection failed or was late: see whether its OPA still is in order."""


class SupervisedOpa:
    """A child process that is started again when it dies, and replaced by another one when the policies change.

    A child compiles everything at its start, 0.4 s for 1000 policies; the one before it decides meanwhile.
    """

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
        self._limits = Limits(memory_bytes)
        self._start_timeout_s = start_timeout_s
        self._child: Child | None = None
        self._connected: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._supervisor: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._renewals = Renewals()
        # By policy id: the module that could not be loaded, and why.
        self._left_out: dict[str, tuple[str, str]] = {}
        self._last_problem = "no output"

    @property
    def pid(self) -> int | None:
        """Of the child that decides."""
        return self._child.pid if self._child else None

    async def start(self, contents: ContentsSource) -> None:
        self._supervisor = asyncio.create_task(self._supervise(contents), name="opa-supervisor")
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await self.connected()
        except TimeoutError as error:
            await self.stop()
            raise OpaUnavailable(f"it does not start: {self._last_problem}") from error

    async def stop(self) -> None:
        for task in (self._probe, self._supervisor, *self._retiring):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._probe = self._supervisor = None

    async def renew(self) -> Mapping[str, str]:
        await self._renewals.settled(self._renewals.request())
        return {policy_id: cause for policy_id, (_, cause) in self._left_out.items()}

    async def connected(self) -> Connection:
        if self._connected.done():
            return self._connected.result()
        return await asyncio.shield(self._connected)

    def suspect(self, connection: Connection) -> None:
        child = self._child
        if child is None or child.connection is not connection:
            return
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(_kill_unless_healthy(child), name="opa-probe")

    async def _supervise(self, contents: ContentsSource) -> None:
        pause_s = 0.0
        try:
            while True:
                started = time.monotonic()
                is_dead = True
                try:
                    is_dead = await self._serve(contents)
                except ChildDiedError as error:
                    self._last_problem = str(error)
                    log.error("opa.does_not_start", output=error.output)
                except Exception as error:  # a boundary: without OPA nobody may do anything, so try again
                    self._last_problem = str(error)
                    log.exception("opa.supervision_failed")
                if not is_dead or time.monotonic() - started > _SHORT_LIFE_S:
                    pause_s = 0.0
                if is_dead:
                    await asyncio.sleep(pause_s)
                    pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s + 0.1)
        finally:
            child, self._child = self._child, None
            if child is not None:
                await child.stop()

    async def _serve(self, contents: ContentsSource) -> bool:
        """Through one child's time, from before its start: True when it died, False when another one is wanted."""
        number = self._renewals.asked
        child = await self._started(contents)
        self._replace(child)
        log.info("opa.started", pid=child.pid)
        self._renewals.settle(number)
        async with asyncio.TaskGroup() as group:
            death = group.create_task(child.died())
            change = group.create_task(self._renewals.asked_beyond(number))
            await asyncio.wait([death, change], return_when=asyncio.FIRST_COMPLETED)
            is_dead = death.done()
            death.cancel()
            change.cancel()
        return is_dead

    async def _started(self, contents: ContentsSource) -> Child:
        """A child with all that OPA can load.

        Raises:
            ChildDiedError: it starts with none.
        """
        while True:
            given = contents()
            try:
                return await Child.start(
                    self._opa, self._loadable(given), limits=self._limits, deadline_s=self._deadline_s
                )
            except ChildDiedError as error:
                blamed = bundle.policies_named(error.output) & given.modules.keys() - self._left_out.keys()
                if not blamed:
                    raise
                log.error("opa.policies_left_out", policy_ids=sorted(blamed), output=error.output)
                self._left_out |= {
                    policy_id: (given.modules[policy_id], error.output) for policy_id in blamed
                }

    def _loadable(self, given: bundle.Contents) -> bundle.Contents:
        self._left_out = {
            policy_id: (module, cause)
            for policy_id, (module, cause) in self._left_out.items()
            if given.modules.get(policy_id) == module
        }
        modules = {id_: module for id_, module in given.modules.items() if id_ not in self._left_out}
        return bundle.Contents(given.sanitizer_key, modules)

    def _replace(self, child: Child) -> None:
        before, self._child = self._child, child
        if self._connected.done():
            self._connected = asyncio.get_running_loop().create_future()
        self._connected.set_result(child.connection)
        self._own(self._watch(child))
        if before is not None:
            self._own(before.retire(self._deadline_s))

    async def _watch(self, child: Child) -> None:
        """Nobody is given the connection of a dead child any more."""
        await child.died()
        if self._child is child:
            self._connected = asyncio.get_running_loop().create_future()
            log.error("opa.died", pid=child.pid, exit_code=child.exit_code, last_output=child.last_output)

    def _own(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


async def _kill_unless_healthy(child: Child) -> None:
    """A dead one is noticed by the supervisor; this is for one that lives and does not answer."""
    with contextlib.suppress(TimeoutError, ConnectionLostError):
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            while not await child.connection.is_healthy():
                await asyncio.sleep(_PROBE_PAUSE_S)
            return
    if child.is_alive:
        log.error("opa.hangs", pid=child.pid)
        child.kill()
