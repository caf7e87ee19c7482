"""What is kept of a plan's container: the source as it was planned and the plan, and not the providers."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from runner import kept_plan
from runner.kept_plan import Left


def container_tar(files: dict[str, bytes], links: dict[str, str] | None = None) -> io.BytesIO:
    """As the engine gives /mnt/workspace."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"workspace/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(f"workspace/{name}")
            member.type, member.linkname = tarfile.LNKTYPE, f"workspace/{target}"
            tar.addfile(member)
    stream.seek(0)
    return stream


def kept(left: Left) -> dict[str, bytes]:
    left.archive.seek(0)
    with tarfile.open(fileobj=left.archive, mode="r:gz") as tar:
        opened = ((member.name, tar.extractfile(member)) for member in tar)
        return {name: file.read() for name, file in opened if file is not None}


def test_source_and_plan_are_kept_and_providers_home_and_scratch_are_not(tmp_path: Path) -> None:
    files = {
        "source/main.tf": b"main",
        "source/net/.terraform/modules/modules.json": b"{}",
        "source/net/.terraform/providers/registry/aws": b"700 MB",
        "plan/plan": b"the plan",
        "plan/plan.json": b'{"a": 1}',
        "home/.netrc": b"secret",
        "scratch/x": b"x",
    }
    with Left.on_disk(tmp_path) as left:
        left.take(container_tar(files, {"source/same.tf": "source/main.tf"}))
        assert kept(left) == {
            "source/main.tf": b"main",
            "source/net/.terraform/modules/modules.json": b"{}",
            "plan/plan": b"the plan",
            "plan/plan.json": b'{"a": 1}',
            "source/same.tf": b"main",
        }
        assert (left.has_changes, left.json) == (True, b'{"a": 1}')


def test_the_file_no_changes_says_so(tmp_path: Path) -> None:
    with Left.on_disk(tmp_path) as left:
        left.take(container_tar({"plan/no-changes": b""}))
        assert (left.has_changes, left.json) == (False, None)


def test_a_second_reading_begins_anew(tmp_path: Path) -> None:
    with Left.on_disk(tmp_path) as left:
        left.take(container_tar({"plan/no-changes": b"", "source/long": b"x" * 100_000}))
        left.take(container_tar({"source/short": b"y"}))
        assert kept(left) == {"source/short": b"y"}
        assert left.has_changes


def test_a_plan_told_in_too_many_bytes_is_kept_and_not_read(tmp_path: Path) -> None:
    big = b" " * (kept_plan.MAX_JSON_BYTES + 1)
    with Left.on_disk(tmp_path) as left:
        left.take(container_tar({"plan/plan.json": big}))
        assert left.json is None
        assert kept(left)["plan/plan.json"] == big
