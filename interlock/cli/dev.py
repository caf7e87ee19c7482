"""`interlock dev`: control plane, OPA and one runner on this machine, in one command."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

import interlock
from interlock import profiles
from interlock.cli import show
from interlock.cli.dev_child import Child
from interlock.cli.dev_folder import DevFolder
from interlock.cli.server import require
from interlock.cli.session import PATIENCE
from interlock.errors import BadCredentials, InterlockError, Misconfigured
from interlock.profiles import Profile
from interlock.types import Runner, RunnerState, RunState

PROFILE = "dev"
POOL = "public"
READY_WITHIN_S = 60.0
# A runner asked once waits for its runs; asked twice it leaves them to their containers, where the next one finds
# them. A control plane lets its streams end.
RUNNER_PATIENCE_S = (2.0, 10.0)
SERVER_PATIENCE_S = (25.0,)
# Not for the servers: they would act on another control plane's settings.
CLIENT_VARIABLES = ("INTERLOCK_ADDRESS", "INTERLOCK_TOKEN", "INTERLOCK_API_KEY", "INTERLOCK_PROFILE")

NEXT = """\
In another terminal{profile}:

  interlock stack create hello --tool custom --image alpine:3
  mkdir -p hello && interlock stack push hello hello
  interlock task run hello -- 'echo hello from $(hostname)'
  interlock audit list

Ctrl-C here ends all. The data stays in {folder}.
"""


def dev(
    data_dir: Annotated[
        Path, typer.Option(help="Where everything is kept: database, output, keys, logs.")
    ] = Path("~/.local/share/interlock/dev"),
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT", help="Where to listen; by default where it did last time, or any port."
        ),
    ] = "",
    capacity: Annotated[int, typer.Option(min=1, help="Runs at once.")] = 4,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the logs, which are also in the folder.")
    ] = False,
) -> None:
    """Runs everything on this machine: control plane, OPA and a runner. Ready in seconds; Ctrl-C ends all.

    It needs a Docker Engine. The first start makes an admin key, shows it once and stores it as the profile `dev`,
    so that commands in another terminal find it by themselves.
    """
    require("control_plane", extra="server", needs="sqlalchemy")
    require("runner", extra="runner", needs="docker")
    folder = DevFolder(data_dir)
    with folder.taken():
        asyncio.run(Dev(folder, listen=listen, capacity=capacity, verbose=verbose).run())


class Dev:
    """The processes of one `interlock dev`, from their start to their end."""

    def __init__(self, folder: DevFolder, *, listen: str, capacity: int, verbose: bool) -> None:
        self._folder = folder
        self._listen = listen
        self._capacity = capacity
        self._verbose = verbose
        self._environ = {name: value for name, value in os.environ.items() if name not in CLIENT_VARIABLES}
        self._interrupted = asyncio.Event()

    async def run(self) -> None:
        """Until Ctrl-C. Raises ChildFailed where a process ends by itself."""
        begun_at = time.monotonic()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._interrupted.set)
        async with AsyncExitStack() as stack:
            starting = asyncio.create_task(self._start(stack))
            if await self._has_started(starting):
                started = starting.result()
                self._keep_profile(started.client.address)
                _welcome(self._folder, started, took_s=time.monotonic() - begun_at)
                await self._until_over(started.children)
                await _farewell(started.client)
            show.note("interlock dev: ending")
        show.note("interlock dev: all has ended")

    async def _start(self, stack: AsyncExitStack) -> "Started":
        """All, in order; what was started ends with `stack`."""
        server = await stack.enter_async_context(self._control_plane())
        await server.ready(within_s=READY_WITHIN_S)
        client = await stack.enter_async_context(self._connect())
        await _ensure_pool_token(client, self._folder)
        runner = await stack.enter_async_context(self._runner(client.address))
        await runner.ready(within_s=READY_WITHIN_S)
        connected = [each async for each in client.pools.list_runners(pool_id=POOL)]
        return Started(client, [server, runner], connected[0] if connected else None)

    async def _has_started(self, starting: "asyncio.Task[Started]") -> bool:
        """Waits for it; an interrupt before that cancels the start."""
        interrupt = asyncio.create_task(self._interrupted.wait())
        try:
            await asyncio.wait([starting, interrupt], return_when=asyncio.FIRST_COMPLETED)
        finally:
            interrupt.cancel()
        if starting.done():
            return True
        starting.cancel()
        await asyncio.wait([starting])
        return False

    def _control_plane(self) -> AbstractAsyncContextManager[Child]:
        settings = {
            "INTERLOCK_DATA_DIR": str(self._folder.server_dir),
            "INTERLOCK_LISTEN": self._listen or self._folder.listen_address(),
            "INTERLOCK_FIRST_KEY_FILE": str(self._folder.admin_key_file),
        }
        return self._child("control plane", "control_plane", settings, SERVER_PATIENCE_S)

    def _runner(self, address: str) -> AbstractAsyncContextManager[Child]:
        settings = {
            "INTERLOCK_ADDRESS": address,
            "INTERLOCK_POOL_TOKEN_FILE": str(self._folder.pool_token_file),
            "INTERLOCK_RUNNER_DIR": str(self._folder.runner_dir),
            "INTERLOCK_RUNNER_CAPACITY": str(self._capacity),
        }
        return self._child("runner", "runner", settings, RUNNER_PATIENCE_S)

    @asynccontextmanager
    async def _child(
        self, name: str, module: str, settings: Mapping[str, str], patience_s: Sequence[float]
    ) -> AsyncIterator[Child]:
        log_file = self._folder.log_file(module)
        child = await Child.start(name, module, {**self._environ, **settings}, log_file, echo=self._verbose)
        try:
            yield child
        finally:
            await child.stop(patience_s=patience_s)

    def _connect(self) -> interlock.Client:
        """As the admin."""
        api_key = self._folder.admin_key()
        if not api_key:
            raise Misconfigured(
                f"{self._folder.admin_key_file} is gone, and a key is shown once only; give another --data-dir"
            )
        return interlock.connect(self._folder.note_address(), api_key=api_key, retry=PATIENCE)

    def _keep_profile(self, address: str) -> None:
        """Lets other commands find the system. Only once it is up: one that does not start changes no profile."""
        api_key = self._folder.admin_key()
        file = profiles.default_file(os.environ)
        profile = Profile(address=address, api_key=api_key)
        stored = profiles.load(file)
        profiles.save(file, stored.with_profile(PROFILE, profile, make_default=False))
        if stored.by_name.get(PROFILE, Profile()).api_key != api_key:
            show.note(f"interlock dev: the admin key, shown this once and kept in profile {PROFILE}:")
            show.note(api_key)

    async def _until_over(self, children: Sequence[Child]) -> None:
        endings = {asyncio.create_task(child.ended()): child for child in children}
        interrupt = asyncio.create_task(self._interrupted.wait())
        try:
            done, _ = await asyncio.wait([interrupt, *endings], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (interrupt, *endings):
                task.cancel()
        for ending, child in endings.items():
            if ending in done and not self._interrupted.is_set():
                raise child.failure(f"ended by itself with exit code {ending.result()}")


@dataclass(frozen=True)
class Started:
    """What runs, and the runner as the control plane sees it."""

    client: interlock.Client
    children: Sequence[Child]
    runner: Runner | None


async def _ensure_pool_token(client: interlock.Client, folder: DevFolder) -> None:
    try:
        await client.identity.get_caller()
    except BadCredentials as error:
        raise Misconfigured(
            f"the key in {folder.admin_key_file} is not one of the database's beside it; give another --data-dir"
        ) from error
    if not folder.has_pool_token():
        created = await client.pools.create_token(POOL, name="interlock dev")
        folder.write_pool_token(created.credential)


def _welcome(folder: DevFolder, started: Started, *, took_s: float) -> None:
    runner = started.runner
    show.note(
        f"interlock dev: ready in {took_s:.1f} s; the control plane listens on {started.client.address}"
    )
    if runner is None or runner.state != RunnerState.RUNNER_STATE_READY:
        reason = runner.state_reason if runner is not None else "it is not connected"
        show.note(f"interlock dev: the runner takes no work: {reason or 'it is not ready'}")
    is_default = profiles.load(profiles.default_file(os.environ)).default == PROFILE
    print(
        NEXT.format(
            folder=folder.path, profile="" if is_default else ", after `export INTERLOCK_PROFILE=dev`"
        ),
        flush=True,
    )


async def _farewell(client: interlock.Client) -> None:
    """Says what goes on in its container: nothing stops a command that performs."""
    try:
        async for run in client.runs.list(states=[RunState.RUN_STATE_PERFORMING]):
            show.note(
                f"interlock dev: {run.id} performs; it goes on, and the next `interlock dev` here finds it"
            )
    except InterlockError as error:
        show.note(f"interlock dev: whether a run performs is not known: {error}")
