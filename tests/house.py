"""A whole Interlock for tests: the real control plane with its OPA and real runners, as processes that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import interlock
from interlock import types
from interlock.client import Client

# A part that is not up by then never will be: the log says why.
START_S = 60.0
_LOOK_S = 0.02


@dataclass(eq=False)
class Part:
    """One process and its log."""

    command: list[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    # Where the log of the current process begins.
    log_start: int = 0

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and waits; its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        assert self.process is not None
        return self.process.wait(timeout=START_S)

    def text(self) -> str:
        """What the current process has logged so far."""
        return self.log.read_bytes()[self.log_start :].decode(errors="replace")

    async def logged(self, event: str) -> None:
        """Returns once the current process has logged this event."""
        await until(lambda: event in self.text(), f"{event} in {self.log}", self)


@dataclass(eq=False)
class House:
    """A control plane, and runners by name. `address` stays the same over restarts."""

    folder: Path
    engine_url: str
    environment: Mapping[str, str] = field(default_factory=dict)
    runners: dict[str, Part] = field(default_factory=dict)
    address: str = ""
    # Of another house with the same database, where this one is not the first.
    first_key_of: House | None = None

    def __post_init__(self) -> None:
        self.data_dir = self.folder / "server"
        self.key_file = (self.first_key_of or self).folder / "admin.key"
        self.server = Part(
            [sys.executable, "-m", "control_plane"],
            {
                "INTERLOCK_DATA_DIR": str(self.data_dir),
                "INTERLOCK_LISTEN": "127.0.0.1:0",
                "INTERLOCK_FIRST_KEY_FILE": str(self.key_file),
                "INTERLOCK_GIT_ALLOW": "file,http",
                **self.environment,
            },
            self.folder / "server.log",
        )

    @property
    def admin_key(self) -> str:
        return self.key_file.read_text().strip()

    async def start_server(self) -> None:
        (self.data_dir / "server.json").unlink(missing_ok=True)
        self.server.start()
        announced = self.data_dir / "server.json"
        await until(announced.exists, f"the server ({self.server.log})", self.server)
        self.address = json.loads(announced.read_text())["address"]
        # The same port again after a restart: clients and runners know no other.
        self.server.environment = {**self.server.environment, "INTERLOCK_LISTEN": self.address}

    async def start_runner(
        self, name: str = "one", *, capacity: int = 4, pool_id: str = "public", **environment: str
    ) -> Part:
        """Starts a runner with a token of its own and waits until it is welcome."""
        async with self.connect() as client:
            token = await client.pools.create_token(pool_id, name=name)
        part = Part(
            [sys.executable, "-m", "runner"],
            {
                "INTERLOCK_ADDRESS": self.address,
                "INTERLOCK_POOL_TOKEN": token.credential,
                "INTERLOCK_RUNNER_DIR": str(self.folder / f"runner-{name}"),
                "INTERLOCK_RUNNER_NAME": name,
                "INTERLOCK_RUNNER_CAPACITY": str(capacity),
                "INTERLOCK_GIT_ALLOW": "file,http",
                "DOCKER_HOST": self.engine_url,
                **environment,
            },
            self.folder / f"runner-{name}.log",
        )
        part.start()
        self.runners[name] = part
        await part.logged("runner.ready")
        return part

    def connect(self, api_key: str = "", *, retry: interlock.Retry | None = None) -> Client:
        return interlock.connect(self.address, api_key=api_key or self.admin_key, retry=retry)

    def close(self) -> None:
        """Ends every process, runners first."""
        for part in [*self.runners.values(), self.server]:
            if part.process is not None and part.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(part.pid, signal.SIGCONT)
                part.process.terminate()
        for part in [*self.runners.values(), self.server]:
            if part.process is not None:
                try:
                    part.process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    part.kill()


async def until(is_so: object, what: str, part: Part | None = None, *, within_s: float = START_S) -> None:
    """Looks until `is_so()` is true. Fails with what the process logged when it died or the time is over."""
    assert callable(is_so)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not is_so():
        died = part is not None and part.process is not None and part.process.poll() is not None
        if died or loop.time() > deadline:
            raise AssertionError(f"waited in vain for {what}\n{part.text()[-4000:] if part else ''}")
        await asyncio.sleep(_LOOK_S)


@dataclass
class Watched:
    """What a watcher of a run has seen to its end."""

    output: bytes = b""
    states: list[str] = field(default_factory=list)
    run: types.Run = field(default_factory=types.Run)

    @property
    def state(self) -> str:
        return self.states[-1]


async def watch(client: Client, run_id: str, *, offset: int = 0) -> Watched:
    """Follows a run to its end."""
    seen = Watched()
    async for event in client.runs.follow(run_id, offset=offset):
        if isinstance(event, types.Run):
            state = types.RunState.Name(event.state).removeprefix("RUN_STATE_")
            seen.run = event
            if not seen.states or seen.states[-1] != state:
                seen.states.append(state)
        else:
            seen.output += event.data
    return seen


async def run_task(client: Client, stack_id: str, command: str, *, skip_init: bool = False) -> Watched:
    """Creates a task and follows it to its end."""
    run = await client.runs.create_task(stack_id, command, skip_initialization=skip_init)
    return await watch(client, run.id)


async def reached(client: Client, run_id: str, state: str) -> types.Run:
    """Returns once a run is in this state."""
    async for event in client.runs.follow(run_id):
        if isinstance(event, types.Run) and types.RunState.Name(event.state) == f"RUN_STATE_{state}":
            return event
    raise AssertionError(f"{run_id} ended without having been {state}")


@dataclass(eq=False)
class Replicas:
    """Control planes on one PostgreSQL, each a house with a data folder and an OPA of its own. Runners know all."""

    houses: list[House]

    @property
    def addresses(self) -> str:
        """As INTERLOCK_ADDRESS."""
        return ",".join(house.address for house in self.houses)

    async def start_runner(
        self, name: str = "one", *, first: int = 0, capacity: int = 4, **environment: str
    ) -> Part:
        """A runner that dials this replica first, and the next ones where that is away."""
        addresses = [house.address for house in self.houses[first:] + self.houses[:first]]
        house = self.houses[first]
        environment = {"INTERLOCK_ADDRESS": ",".join(addresses), **environment}
        return await house.start_runner(name, capacity=capacity, **environment)

    def connect(self) -> Client:
        """A client that knows all of them."""
        return interlock.connect(self.addresses, api_key=self.houses[0].admin_key)

    def close(self) -> None:
        for house in self.houses:
            house.close()


async def begun(client: Client, run_id: str) -> None:
    """Returns once the command runs, which is a moment after the gate has opened."""
    async for event in client.runs.follow(run_id):
        if isinstance(event, types.OutputChunk):
            return


@contextlib.asynccontextmanager
async def opened_together(
    folder: Path, engine_url: str, database_url: str, *, count: int, **environment: str
) -> AsyncIterator[Replicas]:
    """So many replicas, started, and no runner yet."""
    shared = {
        "INTERLOCK_DATABASE_URL": database_url,
        "INTERLOCK_MASTER_KEY": "6b" * 32,
        "INTERLOCK_SHARED_DIR": str(folder / "shared"),
        **environment,
    }
    houses: list[House] = []
    try:
        for number in range(count):
            own = folder / f"replica-{number}"
            own.mkdir()
            first = houses[0] if houses else None
            houses.append(House(own, engine_url, shared, first_key_of=first))
            await houses[-1].start_server()
        yield Replicas(houses)
    finally:
        for house in houses:
            house.close()


@contextlib.asynccontextmanager
async def opened(folder: Path, engine_url: str, **environment: str) -> AsyncIterator[House]:
    """A house with its server started, and no runner yet."""
    house = House(folder, engine_url, environment)
    try:
        await house.start_server()
        yield house
    finally:
        # Not on the event loop: wires of tests run on it, and what ends may still need them.
        await asyncio.to_thread(house.close)
