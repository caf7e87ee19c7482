"""The warm pool: a few containers that were started before a run needs them, each for exactly one run.

It is only ever faster: a run that finds none, or one that has died, gets a container of its own. Idle, one costs a
shell, an init and the engine's shim: about 15 MB of the host's memory.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import structlog

from runner import warm_container
from runner.engine import ContainerSpec, Engine
from runner.errors import RunnerError
from runner.warm_container import WarmContainer
from runner.warm_demand import Demand, Kind

log = structlog.get_logger(__name__)

# A start takes the engine 0.3 s of both cores here: not while tasks come one upon the other.
_QUIET_S = 0.25
_LOOK_S = 30.0
# One that dies sooner will do so again: an image without a shell, for one.
_STEADY_S = 10.0
_REMOVED_WITHIN_S = 10.0


class WarmPool:
    """`run` it beside the runs."""

    def __init__(self, engine: Engine, *, runner_id: str, per_kind: int, total: int) -> None:
        """`per_kind`: 0 for none at all. `total`: of all kinds."""
        self._engine = engine
        self._runner_id = runner_id
        self._demand = Demand(per_kind=per_kind, total=total)
        self._waiting: list[WarmContainer] = []
        self._leaving: list[WarmContainer] = []
        """To be removed; no run gets one of these."""
        self._removals: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._starting_runs = 0
        self._last_start_s = 0.0
        self._nothing_starts = asyncio.Event()
        self._nothing_starts.set()

    def take(self, spec: ContainerSpec, image_id: str) -> WarmContainer | None:
        """One that is as `spec` says and of this very image; the caller's from now on, never given again."""
        kind = Kind.of(spec, image_id)
        if kind is None:
            return None
        self._demand.note(kind, time.monotonic())
        self._changed.set()
        for container in self._waiting:
            if container.kind == kind and container.is_alive:
                self._waiting.remove(container)
                return container
        return None

    @contextmanager
    def held_off(self) -> Iterator[None]:
        """While a run starts, the pool leaves the engine to it."""
        self._starting_runs += 1
        self._nothing_starts.clear()
        try:
            yield
        finally:
            self._last_start_s = time.monotonic()
            self._starting_runs -= 1
            if not self._starting_runs:
                self._nothing_starts.set()

    def end(self) -> None:
        """No run will come any more."""
        self._demand.clear()
        self._changed.set()

    async def run(self) -> NoReturn:
        """Keeps the pool as it should be. Cancelled, it removes what waits."""
        try:
            while True:
                self._changed.clear()
                await self._quiet()
                self._let_go_of_surplus()
                for container in list(self._leaving):
                    await asyncio.shield(self._removal(container))
                kind = self._demand.missing(self._present(), time.monotonic())
                if kind is not None:
                    await self._start(kind)
                else:
                    await self._change()
        finally:
            await self._remove_all()

    def _present(self) -> Counter[Kind]:
        return Counter(container.kind for container in self._waiting)

    def _let_go_of_surplus(self) -> None:
        """The dead, and those that nobody will want."""
        left = Counter(self._demand.wanted(time.monotonic()))
        staying = []
        for container in self._waiting:
            if not container.is_alive:
                log.warning("warm.died", container=container.id, image=container.kind.image)
                if time.monotonic() - container.started_s < _STEADY_S:
                    self._demand.forget(container.kind)
                self._leaving.append(container)
            elif left[container.kind] > 0:
                left[container.kind] -= 1
                staying.append(container)
            else:
                self._leaving.append(container)
        self._waiting = staying

    async def _quiet(self) -> None:
        while True:
            await self._nothing_starts.wait()
            left_s = self._last_start_s + _QUIET_S - time.monotonic()
            if left_s <= 0:
                return
            await asyncio.sleep(left_s)

    async def _change(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _start(self, kind: Kind) -> None:
        starting = asyncio.create_task(
            warm_container.start(self._engine, kind, runner_id=self._runner_id), name="start warm container"
        )
        try:
            container = await asyncio.shield(starting)
        except RunnerError as error:
            log.warning("warm.not_started", image=kind.image, error=error.message)
            self._demand.forget(kind)
            return
        except asyncio.CancelledError:
            await asyncio.wait({starting}, timeout=_REMOVED_WITHIN_S)
            if starting.done() and starting.exception() is None:
                self._waiting.append(starting.result())
            raise
        container.output.call_at_end(self._changed.set)
        self._waiting.append(container)
        log.info("warm.started", container=container.id, image=kind.image)

    def _removal(self, container: WarmContainer) -> asyncio.Task[None]:
        removal = asyncio.create_task(self._remove(container), name="remove warm container")
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)
        return removal

    async def _remove(self, container: WarmContainer) -> None:
        try:
            await container.remove(self._engine)
            self._leaving.remove(container)
        except RunnerError as error:
            # To be tried again. What was asked for may yet be done, so no run may ever get it.
            log.warning("warm.not_removed", container=container.id, error=error.message)

    async def _remove_all(self) -> None:
        """What is left when the engine does not answer is swept at the next start."""
        if self._removals:
            await asyncio.wait(set(self._removals), timeout=_REMOVED_WITHIN_S)
        self._leaving += self._waiting
        self._waiting = []
        if self._leaving:
            removals = {self._removal(container) for container in self._leaving}
            await asyncio.wait(removals, timeout=_REMOVED_WITHIN_S)
