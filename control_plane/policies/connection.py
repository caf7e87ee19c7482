"""HTTP to one OPA, through opa-python-client: decisions under a deadline, changes without one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

import aiohttp
from opa_client import errors as opa_errors  # type: ignore[import-untyped]
from opa_client.opa_async import AsyncOpaClient  # type: ignore[import-untyped]

DISPATCHER_PATH = "interlock.dispatcher"
DISPATCHER_RULE = "decisions"
_DECISIONS = "/".join(["data", *DISPATCHER_PATH.split("."), DISPATCHER_RULE])

# Loading one policy beside 10 000 others takes OPA 3 s.
_CHANGE_TIMEOUT_S = 30.0
# A process that ends for want of memory writes down first what all its threads were at.
_LAST_WORDS_S = 1.0
# A compressed answer costs both sides more than the bytes it saves on loopback.
_HEADERS = {"Accept-Encoding": "identity"}


class ConnectionLostError(Exception):
    """OPA is gone, or what answers is not an OPA that would have us."""


class QueryError(Exception):
    """OPA could not evaluate the query; `report` is its own account of why."""

    def __init__(self, report: dict[str, Any]) -> None:
        super().__init__(report.get("message", ""))
        self.report = report


class ChangeError(Exception):
    """OPA did not take a change; nothing was changed."""


class _DecisionClient(AsyncOpaClient):  # type: ignore[misc]
    """AsyncOpaClient whose query errors keep OPA's account of what failed and where."""

    async def query_rule(
        self,
        input_data: dict[str, Any],
        package_path: str,
        rule_name: str | None = None,
        query_params: dict[str, Any] | None = None,
    ) -> Any:
        path = "/".join([*package_path.split("."), *([rule_name] if rule_name else [])])
        return await self.post(f"data/{path}", query_params, json={"input": input_data})

    async def post(self, path: str, query_params: dict[str, Any] | None, **body: Any) -> Any:
        """`body` is aiohttp's `json` or `data`."""
        async with self._request("POST", f"{self.root_url}/{path}", params=query_params, **body) as response:
            answer = await response.json(content_type=None)
            if response.status == 200:
                return answer
            if isinstance(answer, dict) and answer.get("code") == "internal_error":
                raise QueryError(answer)
            raise ConnectionLostError(f"it answers with HTTP status {response.status}")


class Connection:
    """An open connection pool to one running OPA. `instance` is what that OPA signs its decisions with.

    Every method may raise ConnectionLostError, or TimeoutError where its time is over.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        token: str | None,
        instance: str,
        deadline_s: float,
        is_tls: bool = False,
    ) -> None:
        self.instance = instance
        # Set by who watches its OPA, once that has ended, and where it ended because it needed more memory than it may.
        self.ended = asyncio.Event()
        self.was_exhausted = False
        self._asked = 0
        self._idle = asyncio.Event()
        self._idle.set()
        options = {
            "host": host, "port": port, "ssl": is_tls, "token": token, "headers": dict(_HEADERS), "retries": 0
        }  # fmt: skip
        self._decisions = _DecisionClient(timeout=deadline_s, **options)
        self._is_closed = False
        self._changes = AsyncOpaClient(timeout=_CHANGE_TIMEOUT_S, **options)

    async def __aenter__(self) -> Self:
        await self._decisions.__aenter__()
        await self._changes.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        self._is_closed = True
        await self._decisions.close_connection()
        await self._changes.close_connection()

    async def ask(self, questions: list[dict[str, Any]]) -> Any:
        """The dispatcher's answer, whatever it is; None where there is no dispatcher.

        Raises:
            QueryError: the evaluation failed.
        """
        with self._counted(), self._translated():
            answer = await self._decisions.query_rule(
                {"questions": questions}, DISPATCHER_PATH, DISPATCHER_RULE, {"strict-builtin-errors": "true"}
            )
        return answer.get("result") if isinstance(answer, dict) else None

    async def ask_measured(self, questions: Iterable[str]) -> tuple[Any, int]:
        """As `ask`, of questions that are JSON already, and how many microseconds OPA evaluated.

        Raises:
            QueryError: the evaluation failed.
        """
        body = f'{{"input":{{"questions":[{",".join(questions)}]}}}}'.encode()
        wanted = {"strict-builtin-errors": "true", "metrics": "true"}
        with self._counted(), self._translated():
            answer = await self._decisions.post(_DECISIONS, wanted, data=body)
        if not isinstance(answer, dict):
            return None, 0
        return answer.get("result"), answer.get("metrics", {}).get("timer_rego_query_eval_ns", 0) // 1000

    async def idle(self) -> None:
        """Returns once nothing that was asked waits for its answer."""
        await self._idle.wait()

    async def is_starved(self, *, within_s: float = _LAST_WORDS_S) -> bool:
        """Its OPA has ended for want of memory. Waits a moment for its last words, where it was lost just now."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self.ended.wait()
        return self.was_exhausted

    async def is_healthy(self) -> bool:
        with self._translated():
            return bool(await self._decisions.check_health())

    async def put_policy(self, path: str, text: str) -> None:
        """Returns when decisions use it; the same text again costs OPA nothing.

        Raises:
            ChangeError: OPA cannot compile it; nothing was changed.
        """
        with self._translated():
            try:
                await self._changes.update_policy_from_string(text, path, rego_compat=False)
            except opa_errors.RegoParseError as error:
                raise ChangeError(str(error)) from error

    async def delete_policy(self, path: str) -> None:
        """Harmless where there is none."""
        with self._translated():
            try:
                await self._changes.delete_policy(path)
            except opa_errors.DeletePolicyError as error:
                if error.expression != "resource_not_found":
                    raise ChangeError(str(error.message)) from error

    async def put_data(self, path: str, document: dict[str, Any]) -> None:
        with self._translated():
            await self._changes.update_or_create_data(document, path)

    async def policy_paths(self) -> list[str]:
        """Of all policies that this OPA holds."""
        with self._translated():
            paths: list[str] = await self._changes.get_policies_list()
        return paths

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._asked += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._asked -= 1
            if not self._asked:
                self._idle.set()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if self._is_closed:
            raise ConnectionLostError("it was stopped")
        try:
            yield
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ConnectionLostError(str(error) or type(error).__name__) from error
