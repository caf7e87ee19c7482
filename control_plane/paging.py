"""Page tokens: where the next page begins, signed together with the query that it belongs to."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from typing import Final, TypeVar

import grpc
from google.protobuf.message import Message

from control_plane.errors import DomainError
from control_plane.keys import MasterKey
from interlock.v1.errors_pb2 import ErrorReason

DEFAULT_PAGE_SIZE: Final = 50
# A gRPC client takes 4 MiB unless it was told otherwise; no item is over 1 MiB, the limit of the request it came by.
MAX_PAGE_BYTES: Final = 2 << 20
_TAG_BYTES = 16

M = TypeVar("M", bound=Message)


class BadPageToken(DomainError):
    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = ErrorReason.ERROR_REASON_BAD_PAGE_TOKEN

    def __init__(self) -> None:
        super().__init__(
            "page_token: it is damaged or belongs to another query; start again without it, "
            "and keep the other fields as they were while paging"
        )


def fitting(items: Iterable[M]) -> list[M]:
    """As many from the beginning as fit into one response, and never none."""
    found: list[M] = []
    size_bytes = 0
    for item in items:
        found.append(item)
        size_bytes += item.ByteSize()
        if size_bytes >= MAX_PAGE_BYTES:
            break
    return found


class PageTokens:
    """Makes and reads page tokens. A cursor is whatever the store sorts by, as a string."""

    def __init__(self, master: MasterKey) -> None:
        self._key = master.derive("page-token")

    def encode(self, query: Message, cursor: str) -> str:
        return base64.urlsafe_b64encode(self._tag(query, cursor) + cursor.encode()).decode().rstrip("=")

    def decode(self, query: Message) -> str:
        """The cursor in `query.page_token`, "" where there is none.

        Raises:
            BadPageToken: it is damaged, or `query` differs from the one it was made for in more than page_size.
        """
        token: str = query.page_token  # type: ignore[attr-defined]  # every list request has one
        if not token:
            return ""
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            cursor = raw[_TAG_BYTES:].decode()
        except ValueError as error:
            raise BadPageToken from error
        if not hmac.compare_digest(raw[:_TAG_BYTES], self._tag(query, cursor)):
            raise BadPageToken
        return cursor

    def _tag(self, query: Message, cursor: str) -> bytes:
        bare = type(query)()
        bare.CopyFrom(query)
        bare.ClearField("page_token")
        bare.ClearField("page_size")
        content = b"\0".join(
            (type(query).__name__.encode(), bare.SerializeToString(deterministic=True), cursor.encode())
        )
        return hmac.new(self._key, content, hashlib.sha256).digest()[:_TAG_BYTES]
