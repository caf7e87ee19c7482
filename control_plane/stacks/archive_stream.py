"""The bytes of a tar archive, unpacked on the way, forward only, with bounds on memory, size and ratio."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_UNPACKED_BYTES: Final = 4 * 1024**3
# What is read at once is a header; data is skipped. PAX headers say of themselves how long they are.
MAX_HEADER_BYTES: Final = 256 * 1024
# A program's text packs to a tenth, a log to a fiftieth; gzip's best is 1032.
MAX_RATIO: Final = 200
# Below this much the ratio does not matter.
RATIO_COUNTS_FROM_BYTES: Final = 64 * 1024**2
# xz -9 needs 65 MiB to unpack; what asks for much more is after the memory.
_XZ_MEMORY_BYTES: Final = 128 * 1024**2
_PIECE_BYTES: Final = 256 * 1024
# Headers and padding come on top of the files' own bytes.
_OVERHEAD_BYTES: Final = 256 * 1024**2

_GZIP_MAGIC: Final = b"\x1f\x8b"
_BZIP2_MAGIC: Final = re.compile(rb"BZh[1-9]")
_XZ_MAGIC: Final = b"\xfd7zXZ\x00"


class Unacceptable(Exception):
    """The archive is refused; the message continues a sentence that begins with "the archive"."""


class ArchiveStream:
    """What tarfile reads an archive from: `read`, `tell`, and a `seek` that only goes forward.

    Each raises Unacceptable where a bound is passed or the compression is damaged.
    """

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._packed_bytes = packed.seek(0, io.SEEK_END)
        packed.seek(0)
        self._unpacked = _unpacker(packed)
        self._position = 0
        self._header_bytes = 0
        # Zeros, or nothing, at a proper end.
        self.last_block = b""

    def next_entry(self) -> None:
        """From here on, headers of another entry are read."""
        self._header_bytes = 0

    def read(self, size: int) -> bytes:
        self._header_bytes += size
        if size < 0 or self._header_bytes > MAX_HEADER_BYTES:
            raise Unacceptable(f"has an entry whose headers are over {MAX_HEADER_BYTES} bytes")
        self.last_block = self._take(size)
        return self.last_block

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        if position < self._position:
            raise Unacceptable("has an entry of negative size")
        if self._unpacked is self._packed:
            self._position = self._packed.seek(position)
        while self._position < position and self._take(min(_PIECE_BYTES, position - self._position)):
            pass

    def _take(self, size: int) -> bytes:
        with _damage_noticed():
            content = self._unpacked.read(size)
        self._position += len(content)
        if self._position > MAX_UNPACKED_BYTES + _OVERHEAD_BYTES:
            raise too_large()
        if self._position > max(RATIO_COUNTS_FROM_BYTES, MAX_RATIO * self._packed_bytes):
            raise Unacceptable(f"unpacks to over {MAX_RATIO} times its size, like a bomb")
        return content


def too_large() -> Unacceptable:
    return Unacceptable(f"unpacks to over {MAX_UNPACKED_BYTES} bytes")


class _XzFile(io.RawIOBase):
    """An .xz file, unpacked within a bound on memory, which LZMAFile does not have."""

    def __init__(self, packed: IO[bytes]) -> None:
        super().__init__()
        self._packed = packed
        self._stream = _new_xz_stream()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")
        content = b""
        while not content and self._has_more():
            content = self._stream.decompress(self._input, len(target))
        target[: len(content)] = content
        return len(content)

    def _has_more(self) -> bool:
        """Brings the next input; goes on to the next stream, past padding, where one has ended."""
        self._input = b""
        if self._stream.eof:
            self._input = self._stream.unused_data.lstrip(b"\0") or self._packed.read(_PIECE_BYTES).lstrip(
                b"\0"
            )
            if not self._input:
                return False
            self._stream = _new_xz_stream()
        elif self._stream.needs_input:
            self._input = self._packed.read(_PIECE_BYTES)
            if not self._input:
                raise EOFError("the xz stream has no end")
        return True


def _new_xz_stream() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)


def _unpacker(packed: IO[bytes]) -> IO[bytes]:
    magic = packed.read(len(_XZ_MAGIC))
    packed.seek(0)
    if magic.startswith(_GZIP_MAGIC):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=packed, mode="rb"))
    if _BZIP2_MAGIC.match(magic):
        return bz2.BZ2File(packed)
    if magic == _XZ_MAGIC:
        return io.BufferedReader(_XzFile(packed), _PIECE_BYTES)
    return packed


@contextmanager
def _damage_noticed() -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise Unacceptable(f"is damaged: {error}") from error
    except OSError as error:
        # gzip and bz2 say it with an OSError of their own, which has no number.
        if error.errno is not None:
            raise
        raise Unacceptable(f"is damaged: {error}") from error
