"""The listening side of the server: where it binds, with which TLS, and the services that every gRPC server has."""

from __future__ import annotations

import os
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from control_plane.config import Config

# Measured (grpcio 1.85): with these on both ends a frozen peer is found within 30 s, and pings are no abuse.
OPTIONS: Final = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 1 << 20),
    ("grpc.max_metadata_size", 32 << 10),
    ("grpc.absolute_max_metadata_size", 64 << 10),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
]
_SERVICES: Final = (
    "AuditService",
    "DecisionService", "IdentityService", "LimitService", "PolicyService", "PoolService", "RunService", "RunnerService",
    "SlotService", "StackService",
)  # fmt: skip


class CannotStart(Exception):
    """The server cannot start here; the message says why and what to do."""


async def add_health_and_reflection(server: grpc.aio.Server) -> health.aio.HealthServicer:
    names = [f"interlock.v1.{service}" for service in _SERVICES]
    status = health.aio.HealthServicer()
    for name in ("", *names):
        await status.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return status


def bind(server: grpc.aio.Server, settings: Config) -> str:
    """Binds, and returns the address that clients use. Raises CannotStart where the address is taken."""
    if settings.is_unix:
        # The socket is for its owner alone: whoever may connect still has to show a token.
        before = os.umask(0o177)
        try:
            server.add_insecure_port(settings.listen)
        finally:
            os.umask(before)
        return settings.listen
    host, _, _ = settings.listen.rpartition(":")
    try:
        if settings.tls is None:
            port = server.add_insecure_port(settings.listen)
        else:
            port = server.add_secure_port(settings.listen, _credentials(settings))
    except RuntimeError as error:
        raise CannotStart(
            f"cannot listen on {settings.listen} ({error}); is another server running there?"
        ) from error
    return f"{host}:{port}"


def _credentials(settings: Config) -> grpc.ServerCredentials:
    tls = settings.tls
    assert tls is not None
    client_ca = tls.client_ca.read_bytes() if tls.client_ca else None
    return grpc.ssl_server_credentials(
        [(tls.key.read_bytes(), tls.certificate.read_bytes())],
        root_certificates=client_ca,
        require_client_auth=client_ca is not None,
    )
