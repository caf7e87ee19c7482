"""What happens around every call: the request is parsed, its caller authenticated, its fields checked; whatever is
wrong becomes a google.rpc.Status. One interceptor, so that each call pays for one wrapper."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NoReturn

import grpc
import protovalidate
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from control_plane import errors
from control_plane.door import Door
from control_plane.identity import principal
from control_plane.identity.authenticator import Authenticator

log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
# The generated code is typed for the synchronous server; the four shapes of a handler are told apart at run time.
Handler = Any

_API = "/interlock.v1."
# Their callers have no token: a key is exchanged for one, and runners bring the token of their pool.
_WITHOUT_TOKEN = frozenset(
    {
        "/interlock.v1.IdentityService/ExchangeApiKey",
        "/interlock.v1.RunnerService/Connect",
        "/interlock.v1.RunnerService/FetchSource",
        "/interlock.v1.RunnerService/StorePlan",
    }
)


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of Interlock's own services; health and reflection are left as they are."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._wrapped: dict[str, Handler] = {}
        self.door = Door()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        method = handler_call_details.method
        if not method.startswith(_API):
            return await continuation(handler_call_details)
        handler = self._wrapped.get(method)
        if handler is None:
            original = await continuation(handler_call_details)
            if original is None:
                return original
            handler = self._wrapped[method] = self._wrap(method, original)
        return handler

    def _wrap(self, method: str, handler: Handler) -> Handler:
        call = _Call(method, handler.request_deserializer, self._authenticator, self.door)
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                call.unary(handler.unary_unary), _as_is, handler.response_serializer
            )
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(
                call.stream(handler.unary_stream), _as_is, _serialiser(handler.response_serializer)
            )
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(
                call.unary_of_stream(handler.stream_unary), _as_is, handler.response_serializer
            )
        return grpc.stream_stream_rpc_method_handler(
            call.stream_of_stream(handler.stream_stream), _as_is, handler.response_serializer
        )


class _Call:
    """The four shapes of a method, each between the same beginning and the same end."""

    def __init__(
        self, method: str, parse: Callable[[bytes], Message], authenticator: Authenticator, door: Door
    ) -> None:
        self._method = method
        self._door = door
        self._parse_bytes = parse
        self._authenticator = authenticator

    def unary(self, behaviour: Callable[[Message, Context], Awaitable[Any]]) -> Any:
        async def call(raw: bytes, context: Context) -> Any:
            try:
                with self._door.inside():
                    await self._authenticate(context)
                    return await behaviour(self._parse(raw), context)
            except Exception as error:  # noqa: BLE001  # the boundary: every error becomes a status
                await self._fail(context, error)

        return call

    def stream(self, behaviour: Callable[[Message, Context], AsyncIterator[Any]]) -> Any:
        async def call(raw: bytes, context: Context) -> AsyncIterator[Any]:
            try:
                self._door.check()
                await self._authenticate(context)
                async for message in behaviour(self._parse(raw), context):
                    yield message
            except Exception as error:  # noqa: BLE001  # the boundary: every error becomes a status
                await self._fail(context, error)

        return call

    def unary_of_stream(self, behaviour: Callable[[AsyncIterator[Message], Context], Awaitable[Any]]) -> Any:
        async def call(raw: AsyncIterator[bytes], context: Context) -> Any:
            try:
                with self._door.inside():
                    await self._authenticate(context)
                    return await behaviour(self._parse_each(raw), context)
            except Exception as error:  # noqa: BLE001  # the boundary: every error becomes a status
                await self._fail(context, error)

        return call

    def stream_of_stream(
        self, behaviour: Callable[[AsyncIterator[Message], Context], AsyncIterator[Any]]
    ) -> Any:
        async def call(raw: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
            try:
                self._door.check()
                await self._authenticate(context)
                async for message in behaviour(self._parse_each(raw), context):
                    yield message
            except Exception as error:  # noqa: BLE001  # the boundary: every error becomes a status
                await self._fail(context, error)

        return call

    async def _authenticate(self, context: Context) -> None:
        address = remote_ip(context.peer())
        if self._method in _WITHOUT_TOKEN:
            caller = principal.anonymous(address)
        else:
            caller = await self._authenticator.authenticate(context.invocation_metadata(), address)
        principal.current.set(caller)

    def _parse(self, raw: bytes) -> Message:
        try:
            message = self._parse_bytes(raw)
        except DecodeError as error:
            raise errors.InvalidField(
                "request",
                f"it cannot be read ({error}); strings must be UTF-8, and the message of the right type",
            ) from error
        _check_fields(message, raw)
        return message

    async def _parse_each(self, raw: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for part in raw:
            yield self._parse(part)

    async def _fail(self, context: Context, error: Exception) -> NoReturn:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if not isinstance(error, errors.DomainError):
            error = _internal(self._method, error)
        await context.abort_with_status(rpc_status.to_status(to_status(error)))


def to_status(error: errors.DomainError) -> status_pb2.Status:
    """The status with its ErrorInfo first, then the error's own details."""
    details = [
        error_details_pb2.ErrorInfo(
            reason=errors.reason_name(error.reason), domain=errors.ERROR_DOMAIN, metadata=error.metadata
        ),
        *error.details,
    ]
    packed = []
    for detail in details:
        wrapped = AnyMessage()
        wrapped.Pack(detail)
        packed.append(wrapped)
    return status_pb2.Status(code=error.code.value[0], message=error.message, details=packed)


def remote_ip(peer: str) -> str:
    """`ipv4:127.0.0.1:50110` gives `127.0.0.1`, `ipv6:%5B::1%5D:50110` gives `::1`, a unix socket nothing."""
    family, _, address = peer.partition(":")
    if family not in ("ipv4", "ipv6"):
        return ""
    return address.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")


def _check_fields(message: Message, raw: bytes) -> None:
    violations = [
        (field_path(violation), violation.proto.message or violation.proto.rule_id)
        for violation in protovalidate.collect_violations(message)
    ]
    if b"\0" in raw:
        violations += [(path, "it contains a NUL byte") for path in _strings_with_nul(message)]
    if violations:
        raise errors.InvalidField.of(violations)


def field_path(violation: protovalidate.Violation) -> str:
    """`stack.labels[2]` out of a violation."""
    parts = []
    for element in violation.proto.field.elements if violation.proto.field else ():
        place = element.subscript
        parts.append(element.field_name + (f"[{place.value}]" if place is not None else ""))
    return ".".join(parts)


def _strings_with_nul(message: Message, prefix: str = "") -> list[str]:
    found: list[str] = []
    for field, value in message.ListFields():
        path = prefix + field.name
        values: Sequence[Any] = value if field.is_repeated else [value]
        for one in values:
            if field.type == FieldDescriptor.TYPE_STRING and "\0" in one:
                found.append(path)
            elif field.type == FieldDescriptor.TYPE_MESSAGE:
                found += _strings_with_nul(one, f"{path}.")
    return found


def _internal(method: str, error: Exception) -> errors.DomainError:
    incident = uuid.uuid4().hex[:12]
    log.error("call.broke", method=method, incident=incident, exc_info=error)
    return errors.DomainError(f"a fault of Interlock; its log has it as incident {incident}")


def _as_is(raw: bytes) -> bytes:
    return raw


def _serialiser(serialise: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Lets a stream send messages that are serialised already."""
    return lambda message: message if isinstance(message, bytes) else serialise(message)
