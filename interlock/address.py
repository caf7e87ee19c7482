"""Where the control plane listens: HOST:PORT or unix:///PATH, and whether that is this machine."""

import ipaddress
from dataclasses import dataclass

from interlock.errors import Misconfigured


@dataclass(frozen=True)
class Address:
    """A gRPC target. A local one never leaves the machine, so it needs no TLS."""

    target: str
    is_local: bool


def parse(text: str) -> Address:
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if path.startswith("//") and not path.startswith("///"):
            raise Misconfigured(f"address {text!r}: a unix socket is written unix:///absolute/path")
        return Address(text, is_local=True)
    host, colon, port = text.rpartition(":")
    if not colon or not host or "/" in text or not port.isascii() or not port.isdigit():
        raise Misconfigured(f"address {text!r}: write HOST:PORT or unix:///absolute/path")
    if not 0 < int(port) < 65536:
        raise Misconfigured(f"address {text!r}: the port must be from 1 to 65535")
    return Address(text, is_local=_is_loopback(host.strip("[]")))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # another machine's name
