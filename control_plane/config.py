"""The configuration: read once from the environment, checked whole, then passed on."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from control_plane import object_address
from control_plane.object_address import BadAddress, ObjectAddress

DEFAULT_LISTEN = "127.0.0.1:7420"
_PLAINTEXT_WORDS = object_address.PLAINTEXT_WORDS
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


class ConfigError(Exception):
    """The environment does not make a configuration; the message names the variable and what to do."""


@dataclass(frozen=True, kw_only=True)
class Tls:
    """PEM files of the listener. With a client CA, every client must show a certificate of it."""

    certificate: Path
    key: Path
    client_ca: Path | None


@dataclass(frozen=True, kw_only=True)
class Config:
    """What `python -m control_plane` needs to know. Each field's variable is INTERLOCK_ and its name in capitals."""

    data_dir: Path
    # Output of runs and uploaded archives: a folder that all replicas see, where there are several.
    shared_dir: Path
    # Where output and archives are kept instead of files; None: files.
    object_store: ObjectAddress | None
    # host:port (port 0: any free one) or unix:///path.
    listen: str
    database_url: str
    # 64 hex digits; empty: the file master.key in data_dir.
    master_key: str
    # An OPA that somebody else runs; empty: one of our own, supervised.
    opa_url: str
    opa_token: str
    # The path of OPA's binary; empty: PATH, then the project's cache.
    opa: str
    # The path of Regal's binary; empty: uploads are not linted.
    regal: str
    tls: Tls | None
    # Where the first admin key is written instead of standard error.
    first_key_file: Path | None
    # Transports for git sources besides https and ssh: "http", "file".
    git_allow: frozenset[str]
    max_upload_bytes: int
    # How long a runner may be away before its runs that have not passed their gate fail.
    runner_lease_s: float
    # How long after a run's end its output is compressed, and moved where there is an object store; None: never.
    compress_after_s: float | None
    # Log lines as JSON rather than for people.
    json_logs: bool

    @property
    def is_unix(self) -> bool:
        return self.listen.startswith("unix:")


def read(environment: Mapping[str, str], *, is_terminal: bool) -> Config:
    """
    Raises:
        ConfigError: a variable does not fit, or a listener that others can reach has no TLS.
    """
    data_dir = Path(environment.get("INTERLOCK_DATA_DIR") or "~/.local/share/interlock/server").expanduser()
    listen = environment.get("INTERLOCK_LISTEN") or DEFAULT_LISTEN
    tls = _tls(environment)
    if tls is None and not _is_local(listen) and environment.get("INTERLOCK_INSECURE") != _PLAINTEXT_WORDS:
        raise ConfigError(
            f"INTERLOCK_LISTEN={listen} can be reached by others, and there is no TLS: set INTERLOCK_TLS_CERTIFICATE "
            f"and INTERLOCK_TLS_KEY, or, where something else encrypts, INTERLOCK_INSECURE={_PLAINTEXT_WORDS}"
        )
    first_key_file = environment.get("INTERLOCK_FIRST_KEY_FILE")
    return Config(
        data_dir=data_dir,
        shared_dir=Path(environment.get("INTERLOCK_SHARED_DIR") or data_dir).expanduser(),
        object_store=_object_store(environment),
        listen=listen,
        database_url=environment.get("INTERLOCK_DATABASE_URL") or f"sqlite:///{data_dir}/interlock.db",
        master_key=environment.get("INTERLOCK_MASTER_KEY", ""),
        opa_url=environment.get("INTERLOCK_OPA_URL", ""),
        opa_token=environment.get("INTERLOCK_OPA_TOKEN", ""),
        opa=environment.get("INTERLOCK_OPA", ""),
        regal=environment.get("INTERLOCK_REGAL", ""),
        tls=tls,
        first_key_file=Path(first_key_file) if first_key_file else None,
        git_allow=_git_allow(environment.get("INTERLOCK_GIT_ALLOW", "")),
        max_upload_bytes=int(_number(environment, "INTERLOCK_MAX_UPLOAD_BYTES", 256 << 20)),
        runner_lease_s=_number(environment, "INTERLOCK_RUNNER_LEASE_S", 30.0),
        compress_after_s=_duration(environment, "INTERLOCK_COMPRESS_AFTER"),
        json_logs=_json_logs(environment, is_terminal=is_terminal),
    )


def _tls(environment: Mapping[str, str]) -> Tls | None:
    certificate = environment.get("INTERLOCK_TLS_CERTIFICATE")
    key = environment.get("INTERLOCK_TLS_KEY")
    client_ca = environment.get("INTERLOCK_TLS_CLIENT_CA")
    if not certificate and not key:
        if client_ca:
            raise ConfigError("INTERLOCK_TLS_CLIENT_CA needs INTERLOCK_TLS_CERTIFICATE and INTERLOCK_TLS_KEY")
        return None
    if not certificate or not key:
        raise ConfigError(
            "INTERLOCK_TLS_CERTIFICATE and INTERLOCK_TLS_KEY go together; one of them is missing"
        )
    paths = {"certificate": Path(certificate), "key": Path(key)}
    for path in [*paths.values(), *([Path(client_ca)] if client_ca else [])]:
        if not path.is_file():
            raise ConfigError(f"the TLS file {path} is not there")
    return Tls(**paths, client_ca=Path(client_ca) if client_ca else None)


def _is_local(listen: str) -> bool:
    """Nobody on another machine can reach it."""
    if listen.startswith("unix:"):
        return True
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"INTERLOCK_LISTEN={listen} is neither host:port nor unix:///path")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _object_store(environment: Mapping[str, str]) -> ObjectAddress | None:
    try:
        return object_address.read(environment)
    except BadAddress as error:
        raise ConfigError(str(error)) from error


def _git_allow(text: str) -> frozenset[str]:
    allowed = frozenset(word.strip() for word in text.split(",") if word.strip())
    if unknown := allowed - {"http", "file"}:
        raise ConfigError(f"INTERLOCK_GIT_ALLOW knows http and file, not {', '.join(sorted(unknown))}")
    return allowed


def _json_logs(environment: Mapping[str, str], *, is_terminal: bool) -> bool:
    form = environment.get("INTERLOCK_LOG") or ("text" if is_terminal else "json")
    if form not in ("json", "text"):
        raise ConfigError(f"INTERLOCK_LOG={form} is neither json nor text")
    return form == "json"


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name)
    if not text:
        return default
    try:
        number = float(text)
    except ValueError as error:
        raise ConfigError(f"{name}={text} is not a number") from error
    if not 0 < number < math.inf:
        raise ConfigError(f"{name}={text} must be more than 0 and finite")
    return number


def _duration(environment: Mapping[str, str], name: str) -> float | None:
    """A number and a unit; None for `never`, which is the default."""
    text = environment.get(name) or "never"
    if text == "never":
        return None
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if match is None:
        raise ConfigError(f"{name}={text}: write a number and a unit, such as 12h or 30d, or never")
    return int(match[1]) * _UNITS_S[match[2]]
