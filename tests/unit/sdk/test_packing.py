"""A folder's archive: the same bytes for the same files, without what is to be ignored."""

import os
import tarfile
from pathlib import Path

import pytest

from interlock import packing
from interlock.errors import Misconfigured


def folder(place: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return place


def packed(directory: Path, place: Path) -> list[str]:
    packing.pack(directory, place / "x.tar.gz")
    with tarfile.open(place / "x.tar.gz") as archive:
        return archive.getnames()


def test_the_same_files_give_the_same_bytes_whoever_packs_them_and_when(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {"main.tf": "a", "modules/net/main.tf": "b"})
    two = folder(tmp_path / "two", {"modules/net/main.tf": "b", "main.tf": "a"})
    os.utime(two / "main.tf", (1, 1))
    (two / "main.tf").chmod(0o600)

    packing.pack(one, tmp_path / "one.tar.gz")
    packing.pack(two, tmp_path / "two.tar.gz")

    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
    assert (tmp_path / "one.tar.gz").read_bytes()[4:8] == bytes(4)  # where gzip would write the time


def test_an_executable_file_and_a_link_stay_what_they_are(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", {"run.sh": "#!/bin/sh\n"})
    (source / "run.sh").chmod(0o755)
    (source / "link").symlink_to("run.sh")

    packing.pack(source, tmp_path / "x.tar.gz")

    with tarfile.open(tmp_path / "x.tar.gz") as archive:
        assert archive.getmember("run.sh").mode == 0o755
        assert archive.getmember("link").linkname == "run.sh"


def test_git_is_left_out_at_any_depth(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", {".git/config": "", "sub/.git": "gitdir: x", "sub/kept": ""})

    assert packed(source, tmp_path) == ["sub", "sub/kept"]


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ("*.log", ["keep", "sub", "sub/keep"]),
        ("/a.log", ["keep", "sub", "sub/a.log", "sub/keep"]),
        ("sub/", ["a.log", "keep"]),
        ("sub", ["a.log", "keep"]),
        ("a.log/", ["a.log", "keep", "sub", "sub/a.log", "sub/keep"]),
        ("sub/*", ["a.log", "keep", "sub"]),
        ("**/a.log", ["keep", "sub", "sub/keep"]),
        ("sub/**", ["a.log", "keep", "sub"]),
        ("*.log\n!sub/a.log", ["keep", "sub", "sub/a.log", "sub/keep"]),
        ("# a comment\n\n[ak]*", ["sub"]),
        ("?.log", ["keep", "sub", "sub/keep"]),
        ("k[!x]ep", ["a.log", "sub", "sub/a.log"]),
    ],
)
def test_the_ignore_file_has_the_syntax_of_gitignore(tmp_path: Path, rules: str, kept: list[str]) -> None:
    source = folder(
        tmp_path / "in",
        {
            "a.log": "",
            "keep": "",
            "sub/a.log": "",
            "sub/keep": "",
            ".interlockignore": f"{rules}\n.interlockignore",
        },
    )

    assert packed(source, tmp_path) == kept


def test_what_is_no_file_folder_or_link_is_refused_by_name(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", {"a": ""})
    os.mkfifo(source / "pipe")

    with pytest.raises(Misconfigured, match="pipe: neither a file nor a folder nor a link"):
        packing.pack(source, tmp_path / "x.tar.gz")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="not a folder"):
        packing.pack(tmp_path / "none", tmp_path / "x.tar.gz")
