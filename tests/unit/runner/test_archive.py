"""Uploaded archives: what arrives in the workspace, and what is refused."""

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from runner.errors import SourceRefused, SourceUnavailable
from runner.sources.archive import SourceLimits, from_archive


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, mode
    return made


def file(name: str, content: bytes = b"x", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    made = member(name, mode=mode)
    made.size = len(content)
    return made, content


def link(name: str, target: str) -> tarfile.TarInfo:
    return member(name, tarfile.SYMTYPE, link=target)


def tar(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as writer:
        for each in members:
            info, content = each if isinstance(each, tuple) else (each, b"")
            writer.addfile(info, io.BytesIO(content))
    return archive.getvalue()


def is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


async def unpacked(
    archive: bytes, folder: Path, project_root: str = "", limits: SourceLimits | None = None
) -> dict[str, tarfile.TarInfo]:
    """The members of the workspace's tar by name."""

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(archive), 1000):
            yield archive[start : start + 1000]

    digest = hashlib.sha256(archive).hexdigest()
    options = {"work_folder": folder, "project_root": project_root, "limits": limits or SourceLimits()}
    with (
        await from_archive(chunks(), sha256=digest, **options) as workspace,  # type: ignore[arg-type]
        tarfile.open(fileobj=workspace.archive()) as result,
    ):
        assert is_empty(folder)
        return {each.name: each for each in result}


async def test_members_arrive_below_the_source_folder_and_belong_to_the_run_s_user(tmp_path: Path) -> None:
    result = await unpacked(
        tar(file("./main.tf"), member("modules/", tarfile.DIRTYPE), file("modules/a.tf")), tmp_path
    )
    assert {name.removeprefix("mnt/workspace/source/") for name in result if "source/" in name} == {
        "main.tf",
        "modules",
        "modules/a.tf",
    }
    assert {(each.uid, each.gid, each.uname) for each in result.values()} == {(1983, 1983, "")}


async def test_folders_that_the_archive_leaves_out_are_made_for_the_run_s_user(tmp_path: Path) -> None:
    result = await unpacked(tar(file("a/b/c")), tmp_path)
    assert result["mnt/workspace/source/a/b"].isdir()
    assert result["mnt/workspace/source/a/b"].uid == 1983


async def test_modes_keep_their_execute_bits_and_lose_setuid(tmp_path: Path) -> None:
    result = await unpacked(tar(file("run.sh", mode=0o6755), file("locked", mode=0)), tmp_path)
    assert result["mnt/workspace/source/run.sh"].mode == 0o755
    assert result["mnt/workspace/source/locked"].mode == 0o600


async def test_links_inside_the_source_stay_links(tmp_path: Path) -> None:
    archive = tar(
        file("a/file"), link("a/up", "../b"), link("b", "a/file"), link("dangling", "nowhere"), link("loop", "loop"),
        member("again", tarfile.LNKTYPE, link="a/file"),
    )  # fmt: skip
    result = await unpacked(archive, tmp_path)
    assert result["mnt/workspace/source/a/up"].linkname == "../b"
    assert result["mnt/workspace/source/again"].linkname == "mnt/workspace/source/a/file"


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
async def test_compressed_archives_are_taken_too(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    assert "mnt/workspace/source/main.tf" in await unpacked(compress(tar(file("main.tf"))), tmp_path)


async def test_a_name_that_is_not_utf_8_survives(tmp_path: Path) -> None:
    name = b"caf\xe9".decode(errors="surrogateescape")
    assert f"mnt/workspace/source/{name}" in await unpacked(tar(file(name)), tmp_path)


@pytest.mark.parametrize(
    "members",
    [
        [file("/etc/passwd")],
        [file("../evil")],
        [file("a/../../evil")],
        [file("a/../b")],
        [link("l", "/etc/passwd")],
        [link("l", "..")],
        [link("a/l", "../../x")],
        [link("l", "")],
        [link("here", "."), link("out", "here/../x")],
        [member("deep/er/", tarfile.DIRTYPE), link("d", "deep/er"), link("out", "d/../../../x")],
        [link("one", "two/../.."), link("two", "three"), member("three/", tarfile.DIRTYPE)],
        [link("folder", "elsewhere"), file("folder/file")],
        [file("same"), link("same", "other")],
        [member("folder/", tarfile.DIRTYPE), link("folder", "other")],
        [file("a"), file("a/b")],
        [member("l", tarfile.LNKTYPE, link="../../etc/passwd")],
        [member("l", tarfile.LNKTYPE, link="/etc/passwd")],
        [link("s", "x"), member("l", tarfile.LNKTYPE, link="s")],
        [member("null", tarfile.CHRTYPE)],
        [member("disk", tarfile.BLKTYPE)],
        [member("pipe", tarfile.FIFOTYPE)],
        [member(".", tarfile.SYMTYPE, link="x")],
        [file("x" * 256)],
        [file("x/" * 2100 + "x")],
    ],
)
async def test_what_leaves_the_workspace_or_is_no_file_is_refused(
    tmp_path: Path, members: list[tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]]
) -> None:
    with pytest.raises(SourceRefused):
        await unpacked(tar(*members), tmp_path)
    assert is_empty(tmp_path)


async def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = gzip.compress(tar(file("zeros", bytes(50_000_000))))
    with pytest.raises(SourceRefused, match="more than 1000000 bytes"):
        await unpacked(bomb, tmp_path, limits=SourceLimits(unpacked_bytes=1_000_000))


async def test_too_many_members_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match="more than 10 files"):
        await unpacked(
            tar(*(file(f"{number}") for number in range(11))), tmp_path, limits=SourceLimits(members=10)
        )


async def test_a_huge_extra_header_is_refused_without_reading_it(tmp_path: Path) -> None:
    header = member("huge", tarfile.XHDTYPE)
    header.size = 1 << 30
    with pytest.raises(SourceRefused, match="1073741824 bytes"):
        await unpacked(header.tobuf() + bytes(10240), tmp_path)


async def test_links_that_multiply_each_other_are_refused_in_time(tmp_path: Path) -> None:
    chain = [link(f"l{number}", "/".join([f"l{number + 1}"] * 600)) for number in range(2000)]
    with pytest.raises(SourceRefused, match="too many links"):
        await unpacked(tar(*chain), tmp_path)


WHOLE = tar(file("a", b"x" * 2000), file("b", b"y" * 2000))


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        b"not a tar",
        b"x" * 5000,
        WHOLE[:700],
        WHOLE[:2560],
        WHOLE[:2700],
        WHOLE[:4000],
        WHOLE[:2560] + b"z" * 512 + WHOLE[3072:],
        gzip.compress(WHOLE)[:-30],
        gzip.compress(WHOLE)[:15] + b"\0" * 20,
    ],
)
async def test_a_damaged_or_cut_off_archive_is_refused(tmp_path: Path, archive: bytes) -> None:
    with pytest.raises(SourceRefused, match="tar archive"):
        await unpacked(archive, tmp_path)


async def test_the_project_root_has_to_be_a_folder_of_the_source(tmp_path: Path) -> None:
    archive = tar(file("stacks/prod/main.tf"), link("live", "stacks/prod"))
    for root in ("", "stacks", "stacks/prod", "./stacks/prod/", "live"):
        await unpacked(archive, tmp_path, root)
    for root in ("stacks/prod/main.tf", "stacks/test", "..", "/etc", "stacks/../..", "live/x"):
        with pytest.raises(SourceRefused, match="source"):
            await unpacked(archive, tmp_path, root)


async def test_an_archive_with_another_digest_is_not_used(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield tar(file("a"))

    with pytest.raises(SourceUnavailable, match="SHA-256"):
        await from_archive(chunks(), sha256="0" * 64, work_folder=tmp_path)
