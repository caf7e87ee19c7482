"""Stands before an OPA and spoils what it decides, each time in another way; everything else goes through."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import aiohttp
from aiohttp import web

_DECISIONS: Final = "/v1/data/interlock/dispatcher/decisions"
_TRIES, _PAUSE_S = 200, 0.05


def _with(answer: bytes, **fields: Any) -> bytes:
    result = json.loads(answer)["result"]
    return json.dumps({"result": {**result, **fields}}).encode()


def _each_rule(answer: bytes, rule: Any) -> bytes:
    verdicts = json.loads(answer)["result"]["verdicts"]
    for verdict in (each for by_policy in verdicts for each in by_policy.values()):
        verdict["rules"] = dict.fromkeys(verdict["rules"], rule)
    return _with(answer, verdicts=verdicts)


GARBAGE: Final[tuple[Callable[[bytes], bytes], ...]] = (
    lambda _: b"",
    lambda _: b"{}",
    lambda _: b"null",
    lambda _: b"no JSON",
    lambda _: b'{"result": true}',
    lambda _: b'{"result": {"allow": true, "deny": []}}',
    lambda answer: answer[: len(answer) // 2],
    lambda answer: _with(answer, verdicts=[]),
    lambda answer: _with(answer, verdicts=[{}, {}]),
    lambda answer: _with(answer, verdicts=None),
    lambda answer: _with(answer, instance="another OPA"),
    lambda answer: _with(answer, verdicts=[True, True]),
    lambda answer: _each_rule(answer, {"type": "array", "value": []}),
    lambda answer: _each_rule(answer, {"type": "set", "value": None}),
    lambda answer: _each_rule(answer, []),
)


class Garbler:
    """Spoils nothing until `is_on`; then two answers of three."""

    def __init__(self, opa_port: int) -> None:
        self.port = 0
        self.is_on = False
        self._upstream = f"http://127.0.0.1:{opa_port}"
        self._garbage = itertools.cycle(GARBAGE)
        self._turn = itertools.count()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app)
        async with aiohttp.ClientSession() as session:
            self._session = session
            await self._until_up()
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.port = runner.addresses[0][1]
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _until_up(self) -> None:
        for _ in range(_TRIES):
            try:
                async with self._session.get(f"{self._upstream}/health"):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(_PAUSE_S)
        raise RuntimeError("OPA does not start")

    async def _answer(self, request: web.Request) -> web.Response:
        async with self._session.request(
            request.method,
            self._upstream + request.path_qs,
            data=await request.read(),
            headers={"Content-Type": request.headers.get("Content-Type", "application/json")},
        ) as answer:
            body, status = await answer.read(), answer.status
        is_decision = request.path == _DECISIONS and status == 200
        if self.is_on and is_decision and next(self._turn) % 3:
            body = next(self._garbage)(body)
        return web.Response(status=status, body=body, content_type="application/json")
