"""Which object store keeps outputs and archives: read from the environment, checked, and nothing of it dialled."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

PLAINTEXT_WORDS: Final = "plaintext-is-fine"
_URL: Final = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?")
_PREFIX: Final = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")


class BadAddress(Exception):
    """The environment names no object store that could be used; the message names the variable and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectAddress:
    """A place in a bucket. Credentials are not in it: the client takes them from where AWS's own tools do."""

    bucket: str
    # Before every key, without slashes around it; may be empty.
    prefix: str
    # Of a store other than AWS; empty: AWS.
    endpoint: str
    # Empty: the client's own default.
    region: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def read(environment: Mapping[str, str]) -> ObjectAddress | None:
    """None where INTERLOCK_OBJECT_STORE_URL is not set.

    Raises:
        BadAddress: it is no address, or others could read along.
    """
    url = environment.get("INTERLOCK_OBJECT_STORE_URL")
    if not url:
        return None
    match = _URL.fullmatch(url)
    prefix = (match[2] or "").strip("/") if match else ""
    if match is None or (prefix and not _PREFIX.fullmatch(prefix)):
        raise BadAddress(f"INTERLOCK_OBJECT_STORE_URL={url}: write s3://BUCKET or s3://BUCKET/PREFIX")
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or ""
    return ObjectAddress(bucket=match[1], prefix=prefix, endpoint=_endpoint(environment), region=region)


def _endpoint(environment: Mapping[str, str]) -> str:
    for name in ("INTERLOCK_OBJECT_STORE_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if endpoint := environment.get(name):
            break
    else:
        return ""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadAddress(f"{name}={endpoint}: write https://HOST or https://HOST:PORT")
    told = environment.get("INTERLOCK_OBJECT_STORE_INSECURE") == PLAINTEXT_WORDS
    if parts.scheme == "http" and not _is_loopback(parts.hostname) and not told:
        raise BadAddress(
            f"{name}={endpoint} is not encrypted, and not on this machine: use https, or, where something else "
            f"encrypts, set INTERLOCK_OBJECT_STORE_INSECURE={PLAINTEXT_WORDS}"
        )
    return endpoint.rstrip("/")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
