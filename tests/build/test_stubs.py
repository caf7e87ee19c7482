"""The generation of stubs: repeatable, complete, and at peace with others in the same process."""

import shutil
import subprocess
import sys
from pathlib import Path

import protovalidate
import pytest

from interlock.v1 import run_service_pb2


@pytest.fixture
def tree(root: Path, tmp_path: Path) -> Path:
    """A copy of the parts of the source tree that generation reads."""
    shutil.copytree(root / "proto", tmp_path / "proto")
    (tmp_path / "scripts").mkdir()
    shutil.copy(root / "scripts" / "stubs.py", tmp_path / "scripts")
    return tmp_path


def test_second_run_writes_nothing(tree: Path) -> None:
    generate(tree)
    assert ", 0 written, 0 removed" in generate(tree)


def test_stubs_of_a_removed_proto_go_away(tree: Path) -> None:
    generate(tree)
    (tree / "proto/interlock/v1/extra.proto").write_text('syntax = "proto3";\npackage interlock.v1;\n')
    generate(tree)
    assert (tree / "interlock/v1/extra_pb2.py").exists()

    (tree / "proto/interlock/v1/extra.proto").unlink()

    assert ", 0 written, 2 removed" in generate(tree)
    assert not (tree / "interlock/v1/extra_pb2.py").exists()


def test_wrong_proto_fails_the_build_and_leaves_the_stubs(tree: Path) -> None:
    generate(tree)
    (tree / "proto/interlock/v1/extra.proto").write_text("message {")

    with pytest.raises(subprocess.CalledProcessError) as failed:
        generate(tree)

    assert "extra.proto:1:" in failed.value.stderr
    assert (tree / "interlock/v1/run_pb2.py").exists()


def test_no_stub_imports_a_top_level_buf(tree: Path) -> None:
    generate(tree)
    stubs = [path for path in (tree / "interlock").rglob("*.py*") if path.suffix in {".py", ".pyi"}]
    assert stubs
    lines = [line for path in stubs for line in path.read_text().splitlines()]
    assert not [line for line in lines if line.startswith(("from buf", "import buf"))]


def test_protovalidate_judges_our_messages_in_one_process() -> None:
    request = run_service_pb2.CreateTaskRequest(stack_id="../etc", command="true")
    with pytest.raises(protovalidate.ValidationError):
        protovalidate.validate(request)
    request.stack_id = "network"
    protovalidate.validate(request)


def generate(tree: Path) -> str:
    command = [sys.executable, "scripts/stubs.py"]
    return subprocess.run(command, cwd=tree, check=True, capture_output=True, text=True).stdout
