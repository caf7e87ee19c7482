"""A runner whose container engine has not been there yet: it shows itself, and takes nothing."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import structlog

from interlock.v1.runner_service_pb2 import ConnectResponse, Hello, Welcome
from runner.connection import Send

log = structlog.get_logger(__name__)


class WithoutEngine:
    """The connection's party until there is an engine. Only for a runner that holds nothing."""

    def __init__(self, greeting: Hello, trouble: str) -> None:
        self._hello = Hello()
        self._hello.CopyFrom(greeting)
        self._hello.status.engine_away = True
        self._hello.status.reason = trouble[:1024]

    def hello(self) -> Hello:
        return self._hello

    def welcomed(self, welcome: Welcome) -> None:
        """Nothing was held."""

    def received(self, message: ConnectResponse) -> None:
        """An assignment that was on its way goes back, since the next hello does not name it."""
        log.warning("runner.message_dropped", message=message.WhichOneof("message"))

    async def speak(self, send: Send) -> NoReturn:  # noqa: ARG002
        while True:
            await asyncio.Event().wait()
