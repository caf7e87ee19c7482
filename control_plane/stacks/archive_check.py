"""Whether a tar archive may be unpacked into a workspace: nothing in it leaves, links out, or is a bomb.

Python's tarfile does the parsing; since it trusts what it parses, `check_apart` runs this module as a process with
bounds on memory and CPU time.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tarfile
from pathlib import Path
from typing import IO, Final, cast

from control_plane.stacks.archive_stream import MAX_UNPACKED_BYTES, ArchiveStream, Unacceptable, too_large

MAX_ENTRIES: Final = 100_000
_MAX_PATH_BYTES: Final = 1024
_MAX_NAME_BYTES: Final = 255
_MAX_DEPTH: Final = 64
_MAX_GLOBAL_HEADERS: Final = 64
_MAX_SHOWN_CHARS: Final = 200
_BLOCK_BYTES: Final = 512

_MEMORY_BYTES: Final = 1024**3
# bzip2 unpacks some 40 MB a second.
_CPU_S: Final = 180
_REFUSED: Final = 3


def check(path: Path) -> None:
    """Reads the whole archive once, in bounded memory. Blocks.

    Raises:
        Unacceptable: with what is wrong.
    """
    with path.open("rb") as packed:
        stream = ArchiveStream(packed)
        try:
            _check_entries(stream)
        except tarfile.TarError as error:
            raise Unacceptable(f"is no tar archive (plain, gzip, bzip2 or xz): {error}") from error
        except RecursionError as error:
            raise Unacceptable("has an entry with too many headers") from error
        if stream.last_block.strip(b"\0"):
            raise Unacceptable(f"is damaged before byte {stream.tell()}")


async def check_apart(path: Path) -> None:
    """As `check`, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        str(path),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        problem, trace = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == _REFUSED:
        raise Unacceptable(problem.decode())
    if process.returncode is not None and process.returncode < 0:
        raise Unacceptable("takes too much time or memory to read")
    if process.returncode != 0:
        raise RuntimeError(f"the check of an archive failed: {trace.decode(errors='replace')[-2000:]}")


def _check_entries(stream: ArchiveStream) -> None:
    layout = _Layout()
    entries = unpacked_bytes = 0
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:") as archive:
        while True:
            stream.next_entry()
            entry = archive.next()
            if entry is None:
                return
            # TarFile remembers every entry, for random access.
            archive.members.clear()  # type: ignore[attr-defined]  # typeshed has only getmembers()
            entries += 1
            unpacked_bytes += entry.size if entry.isreg() else 0
            if entries > MAX_ENTRIES:
                raise Unacceptable(f"has more than {MAX_ENTRIES} entries")
            if unpacked_bytes > MAX_UNPACKED_BYTES:
                raise too_large()
            if len(archive.pax_headers) > _MAX_GLOBAL_HEADERS:
                raise Unacceptable("has too many global headers")
            layout.add(entry)


class _Layout:
    """Where the entries so far would lie. Paths are kept as hashes: 100 000 of them must not fill the memory."""

    def __init__(self) -> None:
        self._files: set[int] = set()
        self._links: set[int] = set()

    def add(self, entry: tarfile.TarInfo) -> None:
        """Raises Unacceptable for an entry that is not to be unpacked after those before it."""
        parts = _inner_parts(entry.name, f"an entry {_shown(entry.name)}")
        if not parts:
            if not entry.isdir():
                raise Unacceptable(f"has an entry {_shown(entry.name)} that is its own top and no folder")
            return
        for depth in range(1, len(parts)):
            if hash(parts[:depth]) in self._links:
                raise Unacceptable(f"has an entry {_shown(entry.name)} that lies behind a symbolic link")
        place = hash(parts)
        if entry.issym():
            _check_symlink(entry, parts)
            self._links.add(place)
        elif entry.islnk():
            self._check_hard_link(entry)
            self._files.add(place)
        elif entry.isreg() and not entry.issparse():
            self._files.add(place)
        elif not entry.isdir():
            raise Unacceptable(f"has an entry {_shown(entry.name)} that is {_kind(entry)}")

    def _check_hard_link(self, entry: tarfile.TarInfo) -> None:
        # A link to a symbolic link would be that link in another folder, where it may lead outside.
        target = _inner_parts(entry.linkname, f"a hard link {_shown(entry.name)} to {_shown(entry.linkname)}")
        if hash(target) not in self._files or hash(target) in self._links:
            raise Unacceptable(
                f"has a hard link {_shown(entry.name)} to {_shown(entry.linkname)}, which is no file before it"
            )


def _check_symlink(entry: tarfile.TarInfo, parts: tuple[str, ...]) -> None:
    """A link may climb first and descend then. As no entry lies behind a link, counting the steps up is exact."""
    link = f"a symbolic link {_shown(entry.name)} to {_shown(entry.linkname)}"
    steps = [part for part in entry.linkname.split("/") if part not in ("", ".")]
    climbs = 0
    while climbs < len(steps) and steps[climbs] == "..":
        climbs += 1
    if entry.linkname.startswith("/") or climbs > len(parts) - 1:
        raise Unacceptable(f"has {link} that leaves the workspace")
    if ".." in steps[climbs:]:
        raise Unacceptable(f"has {link} with '..' behind a name")


def _inner_parts(path: str, what: str) -> tuple[str, ...]:
    """The names on the way to `path`, which must be inside the workspace and not too long for a disk."""
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if path.startswith("/"):
        raise Unacceptable(f"has {what} with an absolute path")
    if ".." in parts:
        raise Unacceptable(f"has {what} with '..'")
    if "\0" in path:
        raise Unacceptable(f"has {what} with a NUL character")
    lengths = [len(part.encode(errors="surrogateescape")) for part in parts]
    if sum(lengths) + len(lengths) > _MAX_PATH_BYTES:
        raise Unacceptable(f"has {what} with a path over {_MAX_PATH_BYTES} bytes")
    if len(lengths) > _MAX_DEPTH:
        raise Unacceptable(f"has {what} more than {_MAX_DEPTH} folders deep")
    if max(lengths, default=0) > _MAX_NAME_BYTES:
        raise Unacceptable(f"has {what} with a name over {_MAX_NAME_BYTES} bytes")
    return parts


def _kind(entry: tarfile.TarInfo) -> str:
    if entry.ischr() or entry.isblk():
        return "a device"
    if entry.isfifo():
        return "a named pipe"
    if entry.issparse():
        return "a sparse file; pack it without --sparse"
    return f"of the unknown type {entry.type!r}"


def _shown(path: str) -> str:
    """For a message, whatever bytes the archive has there."""
    text = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return repr(text if len(text) <= _MAX_SHOWN_CHARS else text[:_MAX_SHOWN_CHARS] + "…")


def _main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    try:
        check(Path(sys.argv[1]))
    except Unacceptable as error:
        sys.stdout.write(str(error))
        return _REFUSED
    except MemoryError:
        sys.stdout.write("takes too much memory to read")
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_main())
