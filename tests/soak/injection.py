"""Does what a schedule says: breaks a part, waits, and mends it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import psutil

from scripts.postgres import Cluster
from tests.faults.private_engine import PrivateEngine
from tests.faults.small_disk import SmallDisk
from tests.faults.wire import Wire
from tests.house import Part
from tests.soak import schedule
from tests.soak.ground import Ground
from tests.soak.schedule import Fault, Track


class NotInjected(Exception):
    """What was to be broken was not there at that moment."""


class Injector:
    """`injected` counts the faults that really came about, by "kind of target"."""

    def __init__(self, ground: Ground, *, is_quiet: bool = True) -> None:
        self._ground = ground
        self._is_quiet = is_quiet
        self.injected: Counter[str] = Counter()
        self.engine_outages: list[tuple[float, float]] = []
        # On a slow machine one may still be mended when the next is due.
        self._of_target: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def tracks(self) -> list[Track]:
        """All that can be broken on this ground."""
        return [
            *(schedule.server(name) for name in self._ground.servers),
            *(schedule.runner(name) for name in self._ground.parts if name not in self._ground.servers),
            *(schedule.opa(f"opa-{name}") for name in self._ground.servers),
            *(schedule.wire(name) for name in self._ground.wires),
            *(schedule.engine_line(name) for name in self._ground.lines),
            schedule.database_server("database") if self._ground.cluster else schedule.database("database"),
            *(schedule.engine(name) for name in self._ground.engines),
            *(schedule.disk(name) for name in self._ground.disks),
        ]

    async def inject(self, faults: Sequence[Fault]) -> None:
        """Injects each at its time; returns when the last is mended."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        async with asyncio.TaskGroup() as mending:
            for fault in faults:
                await asyncio.sleep(max(begin + fault.at_s - loop.time(), 0))
                mending.create_task(self._inject(fault))

    async def _inject(self, fault: Fault) -> None:
        try:
            async with self._of_target[fault.target]:
                await self._break(fault)
        except NotInjected as error:
            self._say(f"{fault} not injected: {error}")
        else:
            self.injected[f"{fault.kind} of {fault.target}"] += 1
            self._say(str(fault))

    def _say(self, line: str) -> None:
        if not self._is_quiet:
            print(line, flush=True)

    async def _break(self, fault: Fault) -> None:
        ground = self._ground
        if fault.target in ground.parts:
            await self._break_part(fault)
        elif fault.target.startswith("opa-"):
            await _break_opa(ground.servers[fault.target.removeprefix("opa-")], fault)
        elif wire := ground.wires.get(fault.target):
            await _break_wire(wire, fault)
        elif line := ground.lines.get(fault.target):
            await line.cut()
            await asyncio.sleep(fault.for_s)
            await line.open()
        elif disk := ground.disks.get(fault.target):
            await _fill(disk, fault)
        elif engine := ground.engines.get(fault.target):
            self.engine_outages.append(await asyncio.to_thread(_restart, engine, fault.for_s))
        elif ground.cluster is not None:
            await asyncio.to_thread(_restart_database, ground.cluster, fault)
        else:
            await asyncio.to_thread(_lock_database, ground.house.data_dir / "interlock.db", fault.for_s)

    async def _break_part(self, fault: Fault) -> None:
        part = self._ground.parts[fault.target]
        pid = part.pid
        if fault.kind == "freeze":
            await _freeze(pid, fault.for_s)
            return
        self._ground.kept_down.add(fault.target)
        try:
            _signal(pid, signal.SIGTERM if fault.kind == "stop" else signal.SIGKILL)
            await asyncio.sleep(fault.for_s)
        finally:
            self._ground.kept_down.discard(fault.target)


async def _break_opa(server: Part, fault: Fault) -> None:
    try:
        children = psutil.Process(server.pid).children(recursive=True)
        opa = next(child.pid for child in children if child.name() == "opa")
    except (psutil.NoSuchProcess, StopIteration):
        raise NotInjected("OPA is not running") from None
    if fault.kind == "freeze":
        await _freeze(opa, fault.for_s)
    else:
        _signal(opa, signal.SIGKILL)


async def _freeze(pid: int, for_s: float) -> None:
    _signal(pid, signal.SIGSTOP)
    await asyncio.sleep(for_s)
    with contextlib.suppress(NotInjected):
        _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            raise NotInjected("it is down already")
        process.send_signal(number)
    except psutil.NoSuchProcess:
        raise NotInjected("it is down already") from None


async def _break_wire(wire: Wire, fault: Fault) -> None:
    match fault.kind:
        case "cut" | "reset" | "absence":
            await wire.cut(reset=fault.kind == "reset")
        case "silence":
            wire.hold()
        case "deafness":
            wire.hold(to_target=False)
        case "muteness":
            wire.hold(from_target=False)
    await asyncio.sleep(fault.for_s)
    await wire.restore()


async def _fill(disk: SmallDisk, fault: Fault) -> None:
    await asyncio.to_thread(disk.fill)
    await asyncio.sleep(fault.for_s)
    await asyncio.to_thread(disk.empty)


def _restart(engine: PrivateEngine, for_s: float) -> tuple[float, float]:
    """From when to when it was down."""
    began = time.time()
    engine.stop()
    time.sleep(for_s)
    engine.start()
    return began, time.time()


def _restart_database(cluster: Cluster, fault: Fault) -> None:
    if fault.kind == "kill":
        cluster.kill()
    else:
        cluster.stop()
    time.sleep(fault.for_s)
    cluster.start()


def _lock_database(path: Path, for_s: float) -> None:
    """Another process than the server has it for writing."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise NotInjected(str(error)) from None
        time.sleep(for_s)
        connection.execute("ROLLBACK")
