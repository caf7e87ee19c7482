"""An OPA that runs elsewhere: filled over its API, and again after it was restarted empty."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from urllib.parse import urlsplit

import structlog

from control_plane.policies import bundle
from control_plane.policies.connection import ChangeError, Connection, ConnectionLostError
from control_plane.policies.errors import OpaUnavailable
from control_plane.policies.opa import DEFAULT_DEADLINE_S, ContentsSource
from control_plane.policies.renewal import Renewals

log = structlog.get_logger(__name__)

_START_TIMEOUT_S = 600.0
_PAUSE_S = 0.5


class ExternalOpa:
    """INTERLOCK_OPA_URL. Replicas of one installation may share it; two installations may not.

    It compiles everything anew for each policy that it does not hold yet: minutes for the first 1000.
    """

    def __init__(self, url: str, *, token: str | None = None, deadline_s: float = DEFAULT_DEADLINE_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ValueError(f"INTERLOCK_OPA_URL must be http(s)://HOST[:PORT], not {url!r}")
        self._address = (parts.hostname, parts.port or 8181, parts.scheme == "https")
        self._token = token
        self._deadline_s = deadline_s
        self._connected: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._renewals = Renewals()
        self._held: dict[str, str] = {}
        self._left_out: dict[str, str] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._last_problem = "no answer"

    async def start(self, contents: ContentsSource) -> None:
        self._keeper = asyncio.create_task(self._keep_filled(contents), name="opa-keeper")
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await self.connected()
        except TimeoutError as error:
            await self.stop()
            raise OpaUnavailable(self._last_problem) from error

    async def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None

    async def renew(self) -> Mapping[str, str]:
        await self._renewals.settled(self._renewals.request())
        return self._left_out

    async def connected(self) -> Connection:
        return await asyncio.shield(self._connected)

    def suspect(self, connection: Connection) -> None:  # noqa: ARG002 - the protocol's
        self._held = {}
        self._renewals.request()

    async def _keep_filled(self, contents: ContentsSource) -> None:
        host, port, is_tls = self._address
        # All replicas of an installation come to the same instance, since they share the key.
        instance = hashlib.sha256(f"instance {contents().sanitizer_key}".encode()).hexdigest()[:32]
        connection = Connection(
            host, port, token=self._token, instance=instance, deadline_s=self._deadline_s, is_tls=is_tls
        )
        # Nobody watches its process: of what it died is not known.
        connection.ended.set()
        try:
            async with connection:
                while True:
                    number = self._renewals.asked
                    if await self._fill(connection, contents()):
                        self._renewals.settle(number)
                        await self._renewals.asked_beyond(number)
                    else:
                        self._held = {}
                        await asyncio.sleep(_PAUSE_S)
        finally:
            if self._connected.done():
                self._connected = asyncio.get_running_loop().create_future()

    async def _fill(self, connection: Connection, contents: bundle.Contents) -> bool:
        host, port, _ = self._address
        try:
            self._left_out = await bundle.push(connection, contents, self._held)
        except (ConnectionLostError, ChangeError, TimeoutError) as error:
            self._last_problem = str(error)
            log.warning("opa.not_filled", host=host, port=port, problem=str(error))
            return False
        if self._left_out:
            log.error("opa.policies_left_out", policy_ids=sorted(self._left_out))
        if not self._connected.done():
            log.info("opa.filled", host=host, port=port)
            self._connected.set_result(connection)
        return True
