"""What measurements stand on: a folder on a real disk, an engine, an image; and a whole Interlock on it."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from interlock.client import Client
from interlock.v1.identity_service_pb2 import ExchangeApiKeyRequest
from interlock.v1.identity_service_pb2_grpc import IdentityServiceStub
from scripts import objects, postgres
from tests import house
from tests.house import House, Part

_LOOK_S = 0.5
_WARMED_WITHIN_S = 120.0


@dataclass(frozen=True)
class Ground:
    """`folder` is on a disk, not in memory: durable has to mean something."""

    folder: Path
    engine_url: str
    image: str

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[House]:
        """A control plane with its OPA, and no runner."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            async with house.opened(Path(folder), self.engine_url) as site:
                yield site

    @asynccontextmanager
    async def with_runner(self, capacity: int = 4, *, warm: int = 0) -> AsyncIterator[Site]:
        """And a runner for so many runs at once, which keeps so many containers warm. All are removed at the end."""
        async with self.opened() as site, site.connect() as client:
            runner = await site.start_runner(capacity=capacity, INTERLOCK_RUNNER_WARM=str(warm))
            [runner_id] = [known.id async for known in client.pools.list_runners()]
            try:
                yield Site(self, site, client, runner, runner_id)
            finally:
                runner.kill()
                self._remove_containers(runner_id)

    @asynccontextmanager
    async def replicated(self, count: int = 3) -> AsyncIterator[Site]:
        """So many control planes on a PostgreSQL that waits for its disk, with output in an object store, and a runner
        without warm containers. The client knows all, and is connected to another one than the runner."""
        with postgres.running(is_durable=True) as cluster, objects.running() as store:
            environment = {"INTERLOCK_SHARED_DIR": "", **store.environment()}
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                async with (
                    house.opened_together(
                        Path(folder), self.engine_url, cluster.url(), count=count, **environment
                    ) as replicas,
                    replicas.connect() as client,
                ):
                    runner = await replicas.start_runner(first=1, INTERLOCK_RUNNER_WARM="0")
                    [runner_id] = [known.id async for known in client.pools.list_runners()]
                    try:
                        yield Site(self, replicas.houses[0], client, runner, runner_id)
                    finally:
                        runner.kill()
                        self._remove_containers(runner_id)

    def docker(self, *arguments: str) -> list[str]:
        """A command of docker's on this engine."""
        return ["docker", "--host", self.engine_url, *arguments]

    def containers(self, *filters: str) -> list[str]:
        """The ids of those that all filters of `docker ps` let through."""
        options = (option for each in filters for option in ("--filter", each))
        listing = self.docker("ps", "-aq", "--no-trunc", *options)
        return subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()

    def _remove_containers(self, runner_id: str) -> None:
        if ids := self.containers(f"label=dev.interlock.runner={runner_id}"):
            # What the runner was removing itself a moment ago makes this fail, and is gone all the same.
            subprocess.run(self.docker("rm", "-f", *ids), capture_output=True, check=False)


@dataclass(frozen=True)
class Site:
    """A control plane, a client with an admin's key, and a runner."""

    ground: Ground
    house: House
    client: Client
    runner: Part
    runner_id: str

    async def warmed(self, count: int) -> None:
        """Returns once so many containers wait for a run."""
        mine = f"label=dev.interlock.runner={self.runner_id}"

        def are_there() -> bool:
            waiting = self.ground.containers(mine, "name=^/interlock-warm-")
            return sum(container in self.runner.text() for container in waiting) >= count

        async with asyncio.timeout(_WARMED_WITHIN_S):
            while not are_there():
                await asyncio.sleep(_LOOK_S)  # looking costs what warming needs

    async def bare_stack(self, stack_id: str) -> str:
        """A stack without files: like `docker run`, it begins in an empty folder."""
        await self.client.stacks.create(stack_id, stack_id=stack_id, image=self.ground.image, tool="custom")
        return stack_id

    async def stack(self, stack_id: str) -> str:
        """A stack with one small file and no init of its own: what `docker run` would do, and no more."""
        await self.bare_stack(stack_id)
        with tempfile.TemporaryDirectory() as source:
            (Path(source) / "main.tf").write_text('resource "terraform_data" "one" {}\n')
            await self.client.stacks.push(stack_id, Path(source))
        return stack_id

    async def run(self, stack_id: str, command: str) -> bytes:
        """From CreateTask until the final state and all output are seen; the output."""
        watched = await house.run_task(self.client, stack_id, command)
        if watched.state != "FINISHED":
            raise RuntimeError(f"{command!r} ended {watched.state}: {watched.output[-2000:]!r}")
        return watched.output


async def access_token(house: House) -> str:
    """An admin's, for clients that are not the SDK."""
    key_id, _, secret = house.admin_key.partition(".")
    async with grpc.aio.insecure_channel(house.address) as channel:
        request = ExchangeApiKeyRequest(key_id=key_id, secret=secret)
        answer = await IdentityServiceStub(channel).ExchangeApiKey(request)
    return answer.access_token
