"""The engine interface on Docker. Calls block, in threads named `docker-…`, never on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import docker.errors
import structlog
from docker import APIClient
from docker.context import ContextAPI
from docker.utils import kwargs_from_env
from requests import RequestException
from urllib3.exceptions import HTTPError

from runner import docker_config
from runner.docker_exits import DockerExits
from runner.docker_stream import Connection, DockerInput, DockerOutput, DockerReplay
from runner.engine import (
    ContainerExit,
    ContainerId,
    ContainerSpec,
    ContainerState,
    EngineIdentity,
    FoundContainer,
    PullStatus,
)
from runner.errors import ContainerGone, EngineRefused, EngineUnavailable, ImageUnavailable
from runner.threads import in_own_thread

log = structlog.get_logger(__name__)

# Answers of a healthy engine come in milliseconds; a start under full load has been seen to take 20 s.
_TIMEOUT_S = 120
# Connections kept for the next call; more calls than that at once make their own.
_KEPT_CONNECTIONS = 32
_KILLED = 137
_ARCHIVE_CHUNK_BYTES = 1 << 20
# What the client makes of a unix socket's address.
_LOCAL = "http+docker://localhost"


class DockerEngine:
    """Implements `runner.engine.Engine`."""

    def __init__(self, client: APIClient) -> None:
        self._client = client
        self._exits = DockerExits(client)

    @classmethod
    async def connect(cls, host: str | None = None) -> DockerEngine:
        """To `host`, else DOCKER_HOST, else the current Docker context, else the usual socket."""
        with _translated("connect"):
            return cls(await in_own_thread("docker-connect", functools.partial(_client, host)))

    async def identity(self) -> EngineIdentity:
        told = await self._call("info", self._client.info)
        return EngineIdentity(id=str(told.get("ID", "")), is_local=self._client.base_url == _LOCAL)

    async def ping(self) -> str:
        version = await self._call("ping", self._client.version, api_version=False)
        return str(version["Version"])

    async def image_id(self, image: str) -> str:
        try:
            inspected = await self._call("inspect image", self._client.inspect_image, image)
        except ImageUnavailable:
            return ""
        return str(inspected["Id"])

    async def image_of(self, container: ContainerId) -> str:
        return str((await self._call("inspect", self._client.inspect_container, container))["Image"])

    async def pull(self, image: str, on_status: Callable[[PullStatus], None]) -> None:
        loop = asyncio.get_running_loop()

        def pull() -> None:
            try:
                for status in self._client.pull(image, stream=True, decode=True):
                    if "error" in status:
                        raise ImageUnavailable(f"image {image} could not be pulled: {status['error']}")
                    loop.call_soon_threadsafe(on_status, status)
            except docker.errors.APIError as error:
                raise ImageUnavailable(f"image {image} could not be pulled: {error.explanation}") from error

        await self._call("pull", pull)

    async def create(self, spec: ContainerSpec) -> ContainerId:
        config = docker_config.of(spec)
        created = await self._call("create", self._client.create_container_from_config, config, spec.name)
        return ContainerId(created["Id"])

    async def rename(self, container: ContainerId, name: str) -> None:
        await self._call("rename", self._client.rename, container, name)

    async def attach_output(self, container: ContainerId) -> DockerOutput:
        connection = await self._attach(container, {"stdout": 1, "stderr": 1, "stream": 1})
        return DockerOutput(connection, f"docker-output-{container[:12]}")

    async def attach_input(self, container: ContainerId) -> DockerInput:
        connection = await self._attach(container, {"stdin": 1, "stream": 1})
        return DockerInput(connection, f"docker-input-{container[:12]}")

    async def start(self, container: ContainerId) -> None:
        await self._call("start", self._client.start, container)

    async def put_archive(self, container: ContainerId, archive: bytes | BinaryIO) -> None:
        await self._call("put archive", self._client.put_archive, container, "/", archive)

    async def read_archive(self, container: ContainerId, path: str, take: Callable[[BinaryIO], None]) -> None:
        def read() -> None:
            pieces, _ = self._client.get_archive(container, path, chunk_size=_ARCHIVE_CHUNK_BYTES)
            with contextlib.closing(pieces):
                take(cast("BinaryIO", io.BufferedReader(_Pieces(pieces))))

        await self._call("read archive", read)

    async def wait(self, container: ContainerId) -> ContainerExit:
        exit_code = await self._exit_code(container)
        out_of_memory = False
        if exit_code == _KILLED:
            inspected = await self._call("inspect", self._client.inspect_container, container)
            out_of_memory = inspected["State"]["OOMKilled"]
        return ContainerExit(exit_code, out_of_memory)

    async def stop(self, container: ContainerId, *, grace_s: float) -> None:
        await self._call("stop", self._client.stop, container, timeout=max(0, round(grace_s)))

    async def remove(self, container: ContainerId) -> None:
        try:
            await self._call("remove", self._client.remove_container, container, v=True, force=True)
        except (ContainerGone, _RemovalInProgress):
            log.debug("container.already_gone", container=container)

    async def find(self, labels: Mapping[str, str]) -> list[FoundContainer]:
        filters = {"label": [f"{name}={value}" for name, value in labels.items()]}
        found = await self._call("list", self._client.containers, all=True, filters=filters)
        return [
            FoundContainer(
                id=ContainerId(each["Id"]),
                name=each["Names"][0].removeprefix("/") if each["Names"] else "",
                labels=each["Labels"],
                state=_state(each["State"]),
            )
            for each in found
        ]

    async def replay(self, container: ContainerId) -> DockerReplay:
        options = {"stream": True, "follow": True, "timestamps": True}
        frames = await self._call("logs", self._client.logs, container, **options)
        return DockerReplay(frames, f"docker-replay-{container[:12]}")

    async def close(self) -> None:
        self._exits.close()
        self._client.close()

    async def _exit_code(self, container: ContainerId) -> int:
        """Of whichever tells it first: the engine's events, or its answer to `wait`."""
        told = asyncio.create_task(self._exits.exit_code(container))
        answered = asyncio.create_task(self._call("wait", self._client.wait, container))
        try:
            await asyncio.wait({told, answered}, return_when=asyncio.FIRST_COMPLETED)
            return told.result() if told.done() else int(answered.result()["StatusCode"])
        finally:
            told.cancel()
            answered.cancel()
            await asyncio.gather(told, answered, return_exceptions=True)

    async def _attach(self, container: ContainerId, params: Mapping[str, int]) -> Connection:
        return Connection(await self._call("attach", self._client.attach_socket, container, params))

    async def _call(self, what: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        call = functools.partial(function, *arguments, **options)
        with _translated(what):
            return await in_own_thread(f"docker-{what}", call)


class _Pieces(io.RawIOBase):
    """Pieces of bytes as one file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest and (piece := next(self._pieces, None)) is not None:
            self._rest = memoryview(piece)
        taken = min(len(buffer), len(self._rest))
        buffer[:taken] = self._rest[:taken]
        self._rest = self._rest[taken:]
        return taken


class _RemovalInProgress(EngineRefused):
    """Somebody else is just removing the container."""


def _client(host: str | None) -> APIClient:
    options = {"base_url": host} if host else kwargs_from_env()
    if "base_url" not in options:
        options |= ContextAPI.kwargs_from_context()
    client = APIClient(**options, version="auto", timeout=_TIMEOUT_S, max_pool_size=_KEPT_CONNECTIONS)
    # Else every call looks for proxies in the whole environment, which takes longer than most calls.
    client.trust_env = False
    return client


def _state(name: str) -> ContainerState:
    match name:
        case "created":
            return ContainerState.CREATED
        case "exited" | "dead" | "removing":
            return ContainerState.ENDED
        case _:  # running, paused, restarting: it may still do something
            return ContainerState.RUNNING


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Docker's errors as the interface's own, each with the engine's words."""
    try:
        yield
    except docker.errors.ImageNotFound as error:
        raise ImageUnavailable(f"the image does not exist: {error.explanation}") from error
    except docker.errors.NotFound as error:
        raise ContainerGone(f"the container is gone: {error.explanation}") from error
    except docker.errors.APIError as error:
        refused = _RemovalInProgress if "is already in progress" in str(error.explanation) else EngineRefused
        raise refused(f"the container engine refused to {what}: {error.explanation}") from error
    except (docker.errors.DockerException, RequestException, HTTPError, OSError) as error:
        raise EngineUnavailable(f"the container engine does not answer ({what}): {error}") from error
