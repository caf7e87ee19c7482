"""Docker's events about containers that ended. They come some 50 ms before `wait` answers, which stands back until the
container's network and mounts are taken down as well (measured on Docker Engine 20.10: 34 ms and 86 ms)."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from contextlib import suppress

import docker.errors
import structlog
from docker import APIClient
from docker.types import CancellableStream
from requests import RequestException
from urllib3.exceptions import HTTPError

log = structlog.get_logger(__name__)

_FILTERS = {"type": "container", "event": "die"}
# An end may be told before somebody asks for it. Whoever asks later gets it from `wait`.
_REMEMBERED = 1000
_RETRY_S = 1.0


class DockerExits:
    """Listens in a thread of its own, from now on until `close`. What is told while the engine is away is missed."""

    def __init__(self, client: APIClient) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._told: OrderedDict[str, int] = OrderedDict()
        self._awaited: dict[str, asyncio.Future[int]] = {}
        self._events: CancellableStream[dict[str, object]] | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._listen, name="docker-events", daemon=True).start()

    async def exit_code(self, container: str) -> int:
        """Returns when the end of the container is told, which may be never. For one caller per container."""
        if container in self._told:
            return self._told[container]
        self._awaited[container] = self._loop.create_future()
        try:
            return await self._awaited[container]
        finally:
            del self._awaited[container]

    def close(self) -> None:
        self._closed.set()
        if self._events is not None:
            with suppress(OSError):  # the engine has already closed its end
                self._events.close()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                self._events = self._client.events(decode=True, filters=_FILTERS)
                for event in self._events:
                    container, exit_code = _end_of(event)
                    self._loop.call_soon_threadsafe(self._note, container, exit_code)
            except RuntimeError:  # the loop is closed: the process is on its way out
                return
            except (docker.errors.DockerException, RequestException, HTTPError, OSError, ValueError) as error:
                log.debug("engine.events_cut", error=str(error))
            self._closed.wait(_RETRY_S)

    def _note(self, container: str, exit_code: int) -> None:
        self._told[container] = exit_code
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        awaited = self._awaited.get(container)
        if awaited is not None and not awaited.done():
            awaited.set_result(exit_code)


def _end_of(event: dict[str, object]) -> tuple[str, int]:
    match event:
        case {"Actor": {"ID": str(container), "Attributes": {"exitCode": str(exit_code)}}}:
            return container, int(exit_code)
    raise ValueError(f"an event of another form: {event!r}")
