"""Mounted files: where they go, and what paths are refused."""

import io
import tarfile

import pytest

from runner.errors import SourceRefused
from runner.files import MountedFile, archive_of


def members(*files: MountedFile) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive_of(files))) as tar:
        return {member.name: member for member in tar}


def test_files_belong_to_the_run_s_user_and_secret_ones_to_nobody_else() -> None:
    found = members(
        MountedFile(path="source/override.tf", content=b"plain"),
        MountedFile(path="keys/ca/key.pem", content=b"secret", is_secret=True),
    )
    assert found["mnt/workspace/source/override.tf"].mode == 0o644
    assert found["mnt/workspace/keys/ca/key.pem"].mode == 0o600
    assert found["mnt/workspace/keys/ca"].isdir()
    assert "mnt/workspace/source" not in found
    assert {member.uid for member in found.values()} == {1983}


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "/etc/passwd",
        "../x",
        "source/../../x",
        "a\0b",
        "dir/",
        "source",
        "home",
        "x" * 300,
        "./source",
    ],
)
def test_a_path_that_leaves_the_workspace_or_is_one_of_its_folders_is_refused(path: str) -> None:
    with pytest.raises(SourceRefused):
        archive_of([MountedFile(path=path, content=b"x")])


def test_two_files_of_one_path_or_one_below_the_other_are_refused() -> None:
    for second in ("a/b", "a/./b", "a/b/c", "a"):
        with pytest.raises(SourceRefused):
            archive_of([MountedFile(path="a/b", content=b"x"), MountedFile(path=second, content=b"y")])


def test_a_file_s_content_is_not_in_its_printed_form() -> None:
    assert "swordfish" not in repr(MountedFile(path="a", content=b"swordfish", is_secret=True))
