"""The runner's configuration, read once from the environment. Errors name the variable and what to set."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.errors import ConfigInvalid
from runner.secret import Secret
from runner.sources.git import DEFAULT_PROTOCOLS

# In words, so that nobody sets it by habit.
INSECURE_WORDS = "plaintext-is-fine"

_DEFAULT_DIR = "~/.local/share/interlock/runner"
_DEFAULT_CAPACITY = 4
_MAX_CAPACITY = 1000
_DEFAULT_SPOOL_MIB = 4096
_DEFAULT_WARM = 2
_MAX_NAME = 128


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """PEM files; without `ca` the system's own roots hold."""

    ca: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Config:
    addresses: tuple[str, ...]
    """What grpc dials: "host:port" or "unix:/path"; replicas of one control plane, the first one first."""
    pool_token: Secret
    folder: Path
    capacity: int = _DEFAULT_CAPACITY
    name: str
    tls: TlsFiles | None = None
    """None: plaintext, on loopback or because the configuration says so in words."""
    max_spool_bytes: int = _DEFAULT_SPOOL_MIB << 20
    """Of one run; beyond it the run's output has to wait until the control plane has taken some."""
    git_protocols: frozenset[str] = DEFAULT_PROTOCOLS
    """By which the sources of stacks are read."""
    warm: int = _DEFAULT_WARM
    """How many containers to have started in advance, for each kind lately in use; 0 for none."""


def read_config(environ: Mapping[str, str]) -> Config:
    """Raises `ConfigInvalid`."""
    addresses = _addresses(environ)
    return Config(
        addresses=tuple(each.removeprefix("http://").removeprefix("https://") for each in addresses),
        pool_token=_pool_token(environ),
        folder=Path(environ.get("INTERLOCK_RUNNER_DIR") or _DEFAULT_DIR).expanduser().absolute(),
        capacity=_number(environ, "INTERLOCK_RUNNER_CAPACITY", _DEFAULT_CAPACITY, _MAX_CAPACITY),
        name=(environ.get("INTERLOCK_RUNNER_NAME") or socket.gethostname())[:_MAX_NAME],
        tls=_tls_of_all(environ, addresses),
        git_protocols=DEFAULT_PROTOCOLS | _git_allow(environ.get("INTERLOCK_GIT_ALLOW", "")),
        max_spool_bytes=_number(environ, "INTERLOCK_RUNNER_MAX_SPOOL_MIB", _DEFAULT_SPOOL_MIB, 1 << 30) << 20,
        warm=_number(environ, "INTERLOCK_RUNNER_WARM", _DEFAULT_WARM, _MAX_CAPACITY, minimum=0),
    )


def _addresses(environ: Mapping[str, str]) -> list[str]:
    listed = environ.get("INTERLOCK_ADDRESS", "")
    if not listed:
        raise ConfigInvalid("INTERLOCK_ADDRESS is not set: give the control plane's host:port")
    addresses = [address.strip() for address in listed.split(",")]
    for address in addresses:
        if not address.startswith("unix:") and not address.rpartition(":")[2].isdecimal():
            raise ConfigInvalid(f"INTERLOCK_ADDRESS is {address!r}: it needs a port, as in example.com:7420")
    return addresses


def _tls_of_all(environ: Mapping[str, str], addresses: list[str]) -> TlsFiles | None:
    settings = [_tls(environ, address) for address in addresses]
    if any(each != settings[0] for each in settings):
        raise ConfigInvalid(
            "INTERLOCK_ADDRESS names replicas with and without TLS: put https:// before each, or before none"
        )
    return settings[0]


def _pool_token(environ: Mapping[str, str]) -> Secret:
    token, file = environ.get("INTERLOCK_POOL_TOKEN"), environ.get("INTERLOCK_POOL_TOKEN_FILE")
    if token and file:
        raise ConfigInvalid("INTERLOCK_POOL_TOKEN and INTERLOCK_POOL_TOKEN_FILE are both set: keep one")
    if file:
        try:
            token = Path(file).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigInvalid(f"INTERLOCK_POOL_TOKEN_FILE {file!r} cannot be read: {error}") from error
    if not token or not token.strip():
        raise ConfigInvalid(
            "INTERLOCK_POOL_TOKEN (or INTERLOCK_POOL_TOKEN_FILE) is not set: "
            "an admin makes one with `interlock pool token create POOL`"
        )
    return Secret(token.strip())


def _git_allow(text: str) -> frozenset[str]:
    """Of the control plane's variable of the same name; `file` shows stacks the runner's own disk."""
    allowed = frozenset(word.strip() for word in text.split(",") if word.strip())
    if unknown := allowed - {"http", "file"}:
        raise ConfigInvalid(f"INTERLOCK_GIT_ALLOW knows http and file, not {', '.join(sorted(unknown))}")
    return allowed


def _number(environ: Mapping[str, str], name: str, default: int, maximum: int, *, minimum: int = 1) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or not minimum <= int(text) <= maximum:
        raise ConfigInvalid(f"{name} is {text!r}: it must be a whole number from {minimum} to {maximum}")
    return int(text)


def _tls(environ: Mapping[str, str], address: str) -> TlsFiles | None:
    files = TlsFiles(
        ca=_file(environ, "INTERLOCK_CA_FILE"),
        client_certificate=_file(environ, "INTERLOCK_CLIENT_CERT_FILE"),
        client_key=_file(environ, "INTERLOCK_CLIENT_KEY_FILE"),
    )
    if (files.client_certificate is None) != (files.client_key is None):
        raise ConfigInvalid("INTERLOCK_CLIENT_CERT_FILE and INTERLOCK_CLIENT_KEY_FILE go together: set both")
    insecure = environ.get("INTERLOCK_INSECURE", "")
    if insecure not in {"", INSECURE_WORDS}:
        raise ConfigInvalid(
            f"INTERLOCK_INSECURE is {insecure!r}: to send the pool token and the stacks' secrets "
            f"over a network in plaintext, say {INSECURE_WORDS!r}; unset it for TLS"
        )
    if files != TlsFiles():
        if insecure:
            raise ConfigInvalid("INTERLOCK_INSECURE is set beside files for TLS: keep one of them")
        return files
    if address.startswith("https://"):
        return files
    if insecure or is_local(address):
        return None
    if address.startswith("http://"):
        raise ConfigInvalid(
            f"INTERLOCK_ADDRESS {address!r} means plaintext to another machine: use https://, "
            f"or set INTERLOCK_INSECURE={INSECURE_WORDS}"
        )
    return files


def _file(environ: Mapping[str, str], name: str) -> Path | None:
    text = environ.get(name)
    if not text:
        return None
    path = Path(text).expanduser()
    if not path.is_file():
        raise ConfigInvalid(f"{name} is {text!r}: there is no such file")
    return path


def is_local(address: str) -> bool:
    """Whether nobody else's machine can be at the address."""
    if address.startswith("unix:"):
        return True
    host = address.removeprefix("http://").rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
