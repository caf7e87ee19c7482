"""What a soak stands on: a house whose parts are started again when they die, with wires and lines that fail."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from interlock import types
from interlock.client import Client
from tests import house as houses
from tests.faults import small_disk
from tests.faults.small_disk import SmallDisk
from tests.faults.wire import Wire
from tests.house import House, Part
from tests.integration.runner.engine_line import EngineLine
from tests.soak import command

POOL = "soak"
RUNNERS = ("a", "b")
_LEASE_S = 3.0
_LOOK_S = 0.02
_AGAIN_S = 0.1


@dataclass(eq=False)
class Ground:
    """`outside` is mounted into every container. The names of `wires`, `lines` and `disks` are targets of faults."""

    house: House
    outside: Path
    stacks: list[str] = field(default_factory=list)
    wires: dict[str, Wire] = field(default_factory=dict)
    lines: dict[str, EngineLine] = field(default_factory=dict)
    disks: Mapping[str, SmallDisk] = field(default_factory=dict)
    # Parts that are not started again while they are in here.
    kept_down: set[str] = field(default_factory=set)
    restarts: dict[str, int] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, Part]:
        return {"server": self.house.server} | {
            f"runner-{name}": part for name, part in self.house.runners.items()
        }

    def connect(self, wire: str) -> Client:
        """A client whose calls go over this wire."""
        direct = self.house.address
        self.house.address = self.wires[wire].address
        try:
            return self.house.connect()
        finally:
            self.house.address = direct

    async def supervise(self) -> None:
        """Starts again what has died, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name in self.parts:
                group.create_task(self._keep_up(name))

    async def _keep_up(self, name: str) -> None:
        part = self.parts[name]
        while True:
            assert part.process is not None
            if part.process.poll() is None or name in self.kept_down:
                await asyncio.sleep(_LOOK_S)
                continue
            await asyncio.sleep(_AGAIN_S)
            self.restarts[name] = self.restarts.get(name, 0) + 1
            part.start()

    async def heal(self) -> None:
        """Nothing is cut, frozen, full or kept down any more."""
        self.kept_down.clear()
        for part in self.parts.values():
            with contextlib.suppress(ProcessLookupError):
                part.signal(signal.SIGCONT)
        for wire in self.wires.values():
            await wire.restore()

    async def end_runners(self) -> None:
        """Drained, so that they take their containers with them."""
        for name, part in self.parts.items():
            if name != "server":
                self.kept_down.add(name)
                await asyncio.to_thread(part.stop)

    def runner_ids(self) -> list[str]:
        return [
            (self.house.folder / f"runner-{name}" / "runner-id").read_text().strip()
            for name in self.house.runners
        ]


@contextlib.asynccontextmanager
async def prepared(folder: Path, engine_url: str, image: str, *, stacks: int) -> AsyncIterator[Ground]:
    """Everything runs, and no fault yet."""
    outside = folder / "outside"
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    with _disks(folder) as disks:
        async with (
            houses.opened(folder, engine_url, INTERLOCK_RUNNER_LEASE_S=str(_LEASE_S)) as house,
            contextlib.AsyncExitStack() as open_wires,
        ):
            ground = Ground(house, outside, disks=disks)
            for name in ("callers", "watchers", *(f"runner-{each}" for each in RUNNERS)):
                ground.wires[f"wire-{name}"] = await open_wires.enter_async_context(Wire(house.address))
            async with house.connect() as client:
                await _furnish(client, ground, image, stacks)
            for name in RUNNERS:
                line = EngineLine(folder / f"{name}.sock", engine_url)
                await line.open()
                open_wires.push_async_callback(line.cut)
                ground.lines[f"engine-{name}"] = line
                await house.start_runner(
                    name,
                    capacity=3,
                    pool_id=POOL,
                    DOCKER_HOST=line.url,
                    INTERLOCK_ADDRESS=ground.wires[f"wire-runner-{name}"].address,
                    INTERLOCK_RUNNER_WARM="1" if name == "a" else "0",
                )
            yield ground


async def _furnish(client: Client, ground: Ground, image: str, stacks: int) -> None:
    container = types.ContainerOptions(
        mounts=[f"{ground.outside}:{command.OUTSIDE}"], network_mode="none", memory_bytes=64 << 20
    )
    await client.pools.create(POOL, pool_id=POOL, container=container)
    for number in range(stacks):
        stack = await client.stacks.create(
            f"stack-{number}",
            image=image,
            tool="custom",
            pull_policy="never",
            pool_id=POOL,
            custom_init=command.INIT,
        )
        await client.stacks.set_environment(stack.id, secrets={"SOAK_SECRET": command.SECRET})
        ground.stacks.append(stack.id)
        signs = ground.outside / stack.id
        signs.mkdir()
        signs.chmod(0o777)
        (signs / "counter").write_text("0\n")
        (signs / "counter").chmod(0o666)


@contextlib.contextmanager
def _disks(folder: Path) -> Iterator[dict[str, SmallDisk]]:
    """Small ones, to be filled, under the server and one runner; none where nothing may be mounted."""
    with contextlib.ExitStack() as mounts:
        disks = {}
        if os.geteuid() == 0:
            with contextlib.suppress(pytest.skip.Exception):
                for name in ("server", f"runner-{RUNNERS[0]}"):
                    mounted = small_disk.mounted(folder / name, mib=64, files=2000)
                    disks[f"disk-{name}"] = mounts.enter_context(mounted)
        yield disks
