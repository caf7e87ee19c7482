"""The gRPC channel: TLS except on this machine, and keepalive that finds a dead peer within half a minute."""

from dataclasses import dataclass
from pathlib import Path

import grpc

from interlock import address as addresses
from interlock.errors import Misconfigured
from interlock.several import SeveralChannels

# Measured (grpcio 1.85): with these on both ends a frozen peer is found after 30 s, and an idle stream lives.
# The server's shortest accepted ping interval is 5 s, strictly below ours.
KEEPALIVE = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
# gRPC's own waits grow to two minutes; a restarted server is back within seconds.
RECONNECT = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]
LIMITS = [
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.max_metadata_size", 32 * 1024),
]


@dataclass(frozen=True, kw_only=True)
class Tls:
    """How the server is recognised, and this client by it. By default: public roots, no certificate."""

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""
    """The name in the server's certificate, where it differs from the address."""

    def credentials(self) -> grpc.ChannelCredentials:
        if (self.certificate_file is None) != (self.key_file is None):
            raise Misconfigured("a client certificate needs both certificate_file and key_file")
        return grpc.ssl_channel_credentials(
            root_certificates=_content(self.ca_file),
            private_key=_content(self.key_file),
            certificate_chain=_content(self.certificate_file),
        )


def open_channel(address: str, *, tls: Tls | None, insecure: bool) -> SeveralChannels:
    """To the first server of `address` (several with commas) that answers. Opens no connection yet.

    Plaintext only to this machine, or to any other with `insecure`.
    """
    listed = [addresses.parse(one.strip()) for one in address.split(",")]
    return SeveralChannels([_open(one, tls=tls, insecure=insecure) for one in listed])


def _open(where: addresses.Address, *, tls: Tls | None, insecure: bool) -> grpc.aio.Channel:
    options: list[tuple[str, str | int]] = [*KEEPALIVE, *RECONNECT, *LIMITS]
    options.append(("grpc.primary_user_agent", "interlock-python"))
    if where.is_local:
        options.append(("grpc.enable_http_proxy", 0))
    if tls is None and (where.is_local or insecure):
        return grpc.aio.insecure_channel(where.target, options=options)
    if insecure:
        raise Misconfigured("insecure and TLS options exclude each other")
    tls = tls or Tls()
    if tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return grpc.aio.secure_channel(where.target, tls.credentials(), options=options)


def _content(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}") from error
