"""What a soak stands on: a house whose parts are started again when they die, with wires and lines that fail."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import docker
import pytest

import interlock
from interlock import types
from interlock.client import Client
from scripts import objects
from scripts.postgres import Cluster
from tests import house as houses
from tests.faults import private_engine, small_disk
from tests.faults.private_engine import PrivateEngine
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
    # Of several control planes, with their PostgreSQL, all but `house`.
    others: list[House] = field(default_factory=list)
    cluster: Cluster | None = None
    stacks: list[str] = field(default_factory=list)
    wires: dict[str, Wire] = field(default_factory=dict)
    lines: dict[str, EngineLine] = field(default_factory=dict)
    engines: dict[str, PrivateEngine] = field(default_factory=dict)
    disks: Mapping[str, SmallDisk] = field(default_factory=dict)
    # Parts that are not started again while they are in here.
    kept_down: set[str] = field(default_factory=set)
    restarts: dict[str, int] = field(default_factory=dict)

    @property
    def servers(self) -> dict[str, Part]:
        return {
            f"server-{number}" if self.others else "server": house.server
            for number, house in enumerate([self.house, *self.others])
        }

    @property
    def parts(self) -> dict[str, Part]:
        return self.servers | {f"runner-{name}": part for name, part in self.house.runners.items()}

    def over(self, user: str) -> str:
        """The addresses of all control planes for this user, each over a wire of its own."""
        return ",".join(wire.address for name, wire in self.wires.items() if name.startswith(f"wire-{user}"))

    def connect(self, user: str) -> Client:
        """A client whose calls go over this user's wires."""
        return interlock.connect(self.over(user), api_key=self.house.admin_key)

    def connect_directly(self) -> Client:
        return self.house.connect()

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

    def engine_urls(self, engine_url: str) -> list[str]:
        """Of all engines that its runners have."""
        return [engine_url, *(engine.url for engine in self.engines.values())]

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
            if name not in self.servers:
                self.kept_down.add(name)
                await asyncio.to_thread(part.stop)

    def runner_ids(self) -> list[str]:
        return [
            (self.house.folder / f"runner-{name}" / "runner-id").read_text().strip()
            for name in self.house.runners
        ]


@contextlib.asynccontextmanager
async def prepared(
    folder: Path, engine_url: str, image: str, *, stacks: int, cluster: Cluster | None, has_engine: bool
) -> AsyncIterator[Ground]:
    """Everything runs, and no fault yet. `cluster`: two control planes on it, with an object store over a wire, instead
    of one on SQLite and files. `has_engine`: runner b has a Docker Engine of its own, to be restarted."""
    outside = folder / "outside"
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    async with contextlib.AsyncExitStack() as parts:
        disks = parts.enter_context(_disks(folder, with_server=cluster is None))
        store, environment = await _object_store(parts) if cluster else ({}, {})
        all_houses = await parts.enter_async_context(_houses(folder, engine_url, cluster, environment))
        ground = Ground(
            all_houses[0], outside, others=all_houses[1:], cluster=cluster, wires=store, disks=disks
        )
        for user in ("callers", "watchers", *(f"runner-{each}" for each in RUNNERS)):
            for number, house in enumerate(all_houses):
                name = f"wire-{user}-{number}" if cluster else f"wire-{user}"
                ground.wires[name] = await parts.enter_async_context(Wire(house.address))
        async with ground.connect_directly() as client:
            await _furnish(client, ground, image, stacks)
        if has_engine:
            own = parts.enter_context(_own_engine(engine_url, image))
            ground.engines |= {"docker-b": own}
        for name in RUNNERS:
            of_runner = ground.engines.get(f"docker-{name}")
            line = EngineLine(folder / f"{name}.sock", of_runner.url if of_runner else engine_url)
            await line.open()
            parts.push_async_callback(line.cut)
            ground.lines[f"engine-{name}"] = line
            await ground.house.start_runner(
                name,
                capacity=3,
                pool_id=POOL,
                DOCKER_HOST=line.url,
                INTERLOCK_ADDRESS=ground.over(f"runner-{name}"),
                INTERLOCK_RUNNER_WARM="1" if name == "a" else "0",
            )
        yield ground


@contextlib.asynccontextmanager
async def _houses(
    folder: Path, engine_url: str, cluster: Cluster | None, environment: Mapping[str, str]
) -> AsyncIterator[list[House]]:
    lease = {"INTERLOCK_RUNNER_LEASE_S": str(_LEASE_S)}
    if cluster is None:
        async with houses.opened(folder, engine_url, **lease) as house:
            yield [house]
    else:
        async with houses.opened_together(
            folder, engine_url, cluster.url(), count=2, **lease, **environment
        ) as replicas:
            yield replicas.houses


async def _object_store(parts: contextlib.AsyncExitStack) -> tuple[dict[str, Wire], dict[str, str]]:
    """The wire to it, and the settings of a control plane that shares nothing else with others."""
    server = parts.enter_context(objects.running())
    wire = await parts.enter_async_context(Wire(server.endpoint.removeprefix("http://")))
    environment = server.environment(f"http://{wire.address}")
    return {"wire-object-store": wire}, {"INTERLOCK_SHARED_DIR": "", **environment}


@contextlib.contextmanager
def _own_engine(engine_url: str, image: str) -> Iterator[PrivateEngine]:
    with (
        tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as folder,
        contextlib.closing(docker.DockerClient(engine_url)) as source,
        private_engine.started(Path(folder), image, source, live_restore=True) as engine,
    ):
        yield engine


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
def _disks(folder: Path, *, with_server: bool) -> Iterator[dict[str, SmallDisk]]:
    """Small ones, to be filled, under the server and one runner; none where nothing may be mounted."""
    with contextlib.ExitStack() as mounts:
        disks = {}
        if os.geteuid() == 0:
            with contextlib.suppress(pytest.skip.Exception):
                for name in (*(["server"] if with_server else []), f"runner-{RUNNERS[0]}"):
                    mounted = small_disk.mounted(folder / name, mib=64, files=2000)
                    disks[f"disk-{name}"] = mounts.enter_context(mounted)
        yield disks
