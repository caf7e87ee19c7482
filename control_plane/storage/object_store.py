"""An S3-compatible object store. Each request is short, and has its answer or its error within seconds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from control_plane.errors import ObjectStoreUnavailable
from control_plane.object_address import ObjectAddress

if TYPE_CHECKING:
    from obstore.store import S3Config

# One request with one try more; a store that hangs is away after about twice that.
REQUEST_S = 10.0
_CONNECT_S: Final = 3
_RETRIES: Final = 1


class ObjectStore:
    """Objects under one prefix of a bucket. All methods raise ObjectStoreUnavailable."""

    def __init__(self, address: ObjectAddress) -> None:
        self._address = address
        config: S3Config = {}
        if address.endpoint:
            config["endpoint"] = address.endpoint
        if address.region:
            config["region"] = address.region
        # Credentials come from AWS_ACCESS_KEY_ID and the like, or from the machine's role.
        self._store = S3Store(
            address.bucket,
            prefix=address.prefix or None,
            config=config,
            client_options={
                # `object_address` has seen to it that it may be.
                "allow_http": address.endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=_CONNECT_S),
                "timeout": timedelta(seconds=REQUEST_S),
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=REQUEST_S)},
        )

    async def put(self, key: str, data: bytes) -> None:
        """Durable when it returns. Takes the place of what was there."""
        async with self._answering():
            await obstore.put_async(self._store, key, data, use_multipart=False)

    async def put_first(self, key: str, data: bytes) -> bytes:
        """What is there: `data`, or what was there before. Of several who do this at once, one is the first."""
        async with self._answering():
            try:
                return await self._whole(key)
            except FileNotFoundError:
                pass
            try:
                await obstore.put_async(self._store, key, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return await self._whole(key)
            return data

    async def _whole(self, key: str) -> bytes:
        return bytes(await (await obstore.get_async(self._store, key)).bytes_async())

    async def put_file(self, key: str, file: Path) -> None:
        """Of any length, in parts."""
        async with self._answering():
            await obstore.put_async(self._store, key, file)

    async def size(self, key: str) -> int:
        """Raises FileNotFoundError where it is not there."""
        async with self._answering():
            return int((await obstore.head_async(self._store, key))["size"])

    async def get(self, key: str, start: int, length: int) -> bytes:
        """Raises FileNotFoundError where it is not there."""
        async with self._answering():
            return bytes(await obstore.get_range_async(self._store, key, start=start, length=length))

    async def remove(self, key: str) -> None:
        """One that is not there is no error."""
        async with self._answering():
            try:
                await obstore.delete_async(self._store, key)
            except FileNotFoundError:
                return

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise ObjectStoreUnavailable(f"there is no bucket {self._address.bucket}") from error
            raise
        except (BaseError, OSError, ValueError) as error:
            raise ObjectStoreUnavailable(_cause(error)) from error


def _cause(error: Exception) -> str:
    """Behind the first line is what a programmer wants, and nobody else."""
    return str(error).strip().partition("\n")[0].strip() or type(error).__name__
