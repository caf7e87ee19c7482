"""Archives that may be unpacked, and all those that may not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from control_plane.stacks import archive_check, archive_stream
from control_plane.stacks.archive_stream import Unacceptable

Entry = tuple[tarfile.TarInfo, bytes]
GIB = 1024**3


def entry(name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = "") -> Entry:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    info.size = len(content)
    return info, content


def symlink(name: str, target: str) -> Entry:
    return entry(name, kind=tarfile.SYMTYPE, link=target)


def hard_link(name: str, target: str) -> Entry:
    return entry(name, kind=tarfile.LNKTYPE, link=target)


def folder(name: str) -> Entry:
    return entry(name, kind=tarfile.DIRTYPE)


def tar(*entries: Entry, format_: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format_) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def raw_header(info: tarfile.TarInfo, *, size: int) -> bytes:
    """A header that claims a size which its data does not have."""
    info.size = size
    return info.tobuf(format=tarfile.GNU_FORMAT)


@pytest.fixture
def check(tmp_path: Path) -> Callable[[bytes], None]:
    def run(content: bytes) -> None:
        path = tmp_path / "archive"
        path.write_bytes(content)
        archive_check.check(path)

    return run


Check = Callable[[bytes], None]
ORDINARY = tar(
    folder("."),
    folder("./modules"),
    entry("./main.tf", b'resource "terraform_data" "x" {}\n'),
    entry("modules/" + "n" * 150 + ".tf", b"x" * 3000),
    symlink("modules/main.tf", "../main.tf"),
    symlink("here", "."),
    hard_link("copy.tf", "main.tf"),
)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_an_ordinary_archive_is_accepted_in_every_compression(
    check: Check, pack: Callable[[bytes], bytes]
) -> None:
    check(pack(ORDINARY))


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_archive_of_every_format_is_accepted(check: Check, format_: int) -> None:
    check(tar(folder("a"), entry("a/b", b"x" * 1000), format_=format_))


def test_what_git_archive_and_gnu_tar_make_is_accepted(check: Check, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "modules").mkdir(parents=True)
    (work / "main.tf").write_text("x")
    (work / "modules" / "link.tf").symlink_to("../main.tf")
    check(subprocess.run(["tar", "-C", work, "-cz", "."], check=True, capture_output=True).stdout)
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", "-C", work, *command], check=True)
    check(subprocess.run(["git", "-C", work, "archive", "HEAD"], check=True, capture_output=True).stdout)


def test_several_compressed_streams_in_a_row_are_one_archive(check: Check) -> None:
    half = len(ORDINARY) // 2
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        check(pack(ORDINARY[:half]) + pack(ORDINARY[half:]))


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([entry("../x")], "'..'"),
        ([entry("a/../../x")], "'..'"),
        ([entry("/etc/passwd")], "absolute"),
        ([folder("/tmp")], "absolute"),
        ([entry("dev", kind=tarfile.CHRTYPE)], "a device"),
        ([entry("dev", kind=tarfile.BLKTYPE)], "a device"),
        ([entry("pipe", kind=tarfile.FIFOTYPE)], "a named pipe"),
        ([entry("odd", kind=b"Z")], "unknown type"),
        ([symlink("x", "/etc/passwd")], "leaves the workspace"),
        ([symlink("x", "..")], "leaves the workspace"),
        ([symlink("a/x", "../../y")], "leaves the workspace"),
        ([symlink("x", "a/../../y")], "'..' behind a name"),
        ([symlink("up/here", ".."), symlink("x", "up/here/..")], "'..' behind a name"),
        ([symlink("a", "b"), entry("a/x")], "behind a symbolic link"),
        ([symlink("a", "b"), folder("a"), entry("a/x/y")], "behind a symbolic link"),
        ([hard_link("x", "/etc/passwd")], "absolute"),
        ([hard_link("x", "../y")], "'..'"),
        ([hard_link("x", "missing")], "no file before it"),
        ([symlink("a/b/x", "../../y"), hard_link("x", "a/b/x")], "no file before it"),
        ([entry("x"), symlink("x", "y"), hard_link("z", "x")], "no file before it"),
        ([entry(".")], "its own top"),
        ([entry("x" * 256)], "name over 255"),
        ([entry("/".join(["x"] * 65))], "64 folders"),
        ([entry("/".join(["x" * 200] * 6))], "path over 1024"),
    ],
)
def test_an_entry_that_is_no_file_folder_or_inner_link_is_refused(
    check: Check, entries: list[Entry], problem: str
) -> None:
    with pytest.raises(Unacceptable, match=problem):
        check(tar(entry("main.tf", b"x"), *entries))


def test_a_sparse_file_is_refused(check: Check, tmp_path: Path) -> None:
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1024**2)
        file.seek(1024**2)
        file.write(b"x")
    for format_ in ("gnu", "pax"):
        command = ["tar", "-C", str(tmp_path), "--sparse", f"--format={format_}", "-c", "hole"]
        with pytest.raises(Unacceptable, match="sparse"):
            check(subprocess.run(command, check=True, capture_output=True).stdout)


def test_files_of_over_4_gib_in_all_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    with path.open("wb") as file:
        for name in ("a", "b", "c"):
            file.write(raw_header(tarfile.TarInfo(name), size=2 * GIB))
            file.seek(2 * GIB, os.SEEK_CUR)
        file.truncate()
    with pytest.raises(Unacceptable, match="over 4294967296 bytes"):
        archive_check.check(path)


def test_a_file_that_claims_8_eib_is_refused(check: Check) -> None:
    with pytest.raises(Unacceptable, match="over 4294967296 bytes"):
        check(raw_header(tarfile.TarInfo("a"), size=8 * 1024**6 - 1))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_small_archive_that_unpacks_to_a_huge_one_is_refused_early(
    check: Check, pack: Callable[[bytes], bytes]
) -> None:
    zeros = b"\0" * (archive_stream.RATIO_COUNTS_FROM_BYTES + 1024**2)
    with pytest.raises(Unacceptable, match="like a bomb"):
        check(pack(raw_header(tarfile.TarInfo("zeros"), size=len(zeros)) + zeros))


def test_more_than_100_000_entries_are_refused(check: Check) -> None:
    block = tar(entry("x"))[:512]
    check(block * 100_000 + b"\0" * 1024)
    with pytest.raises(Unacceptable, match="100000 entries"):
        check(block * 100_001 + b"\0" * 1024)


def test_headers_that_would_fill_the_memory_are_refused(check: Check) -> None:
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        info = tarfile.TarInfo("x")
        info.type = kind
        with pytest.raises(Unacceptable, match="headers are over"):
            check(raw_header(info, size=3 * GIB) + b"\0" * 2048)


@pytest.mark.parametrize("size", [0, 512])
def test_headers_of_headers_without_end_are_refused(check: Check, size: int) -> None:
    info = tarfile.TarInfo("x")
    info.type = tarfile.XGLTYPE
    with pytest.raises(Unacceptable, match="headers"):
        check((raw_header(info, size=size) + b"9 a=bcd\n".ljust(size, b"\0")[:size]) * 2000)


def test_an_entry_of_negative_size_is_refused(check: Check) -> None:
    with pytest.raises(Unacceptable, match=r"negative|no tar archive"):
        check(raw_header(tarfile.TarInfo("x"), size=-1024) + b"\0" * 2048)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04" + b"x" * 2000, b"x" * 100, b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh9"]
)
def test_what_is_no_tar_archive_is_refused(check: Check, content: bytes) -> None:
    with pytest.raises(Unacceptable, match=r"is no tar archive|is damaged"):
        check(content)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_truncated_archive_is_refused(check: Check, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(tar(entry("a", os.urandom(100_000))))
    with pytest.raises(Unacceptable, match=r"no tar archive|damaged"):
        check(packed[: len(packed) // 2])


def test_damage_between_two_entries_is_noticed(check: Check) -> None:
    first, second = tar(entry("a", b"x" * 512))[:1024], tar(entry("b"))
    check(first + second)
    with pytest.raises(Unacceptable, match="damaged before byte"):
        check(first + b"garbage!" * 64 + second)


def test_a_message_shows_any_name_as_text(check: Check) -> None:
    with pytest.raises(Unacceptable) as caught:
        check(tar(entry("a/../\udcff\n"), format_=tarfile.GNU_FORMAT))
    str(caught.value).encode()
    assert "\n" not in str(caught.value)


async def test_the_check_in_a_process_of_its_own_says_the_same(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(ORDINARY)
    bad.write_bytes(tar(entry("../x")))

    await archive_check.check_apart(good)
    with pytest.raises(Unacceptable, match=r"has an entry '\.\./x' with '\.\.'"):
        await archive_check.check_apart(bad)
