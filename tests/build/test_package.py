"""What is built from a fresh clone, and that it works with nothing else installed."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

IN_THE_WHEEL = {
    "interlock/py.typed",
    "interlock/v1/__init__.py",
    "interlock/v1/run_pb2.py",
    "interlock/v1/run_pb2.pyi",
    "interlock/v1/run_service_pb2_grpc.py",
    "interlock/v1/run_service_pb2_grpc.pyi",
    "interlock/_vendor/buf/validate/validate_pb2.py",
    "control_plane/__init__.py",
    "policies/lib/dispatcher.rego",
    "policies/schemas/task.json",
    "policies/starters/login/starter_login_test.rego",
}

IMPORT_SDK = """
import interlock
from interlock.v1 import run_service_pb2_grpc as api
print(api.RunServiceStub.__name__)
"""
LIST_DISTRIBUTIONS = """
from importlib.metadata import distributions
print(*(found.name.lower() for found in distributions()))
"""
ONLY_IN_EXTRAS = {"aiohttp", "docker", "opa-python-client", "protovalidate", "rich", "sqlalchemy", "typer"}


def test_wheel_of_a_fresh_clone_carries_stubs_and_policies(wheel: Path) -> None:
    assert names_in(wheel) >= IN_THE_WHEEL


def test_wheel_claims_no_name_but_its_own_packages(wheel: Path) -> None:
    top = {name.split("/")[0] for name in names_in(wheel)}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "control_plane",
        "interlock",
        "policies",
        "runner",
    }


def test_sdist_carries_proto_and_no_stubs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {"proto/interlock/v1/run.proto", "proto/buf/validate/validate.proto", "scripts/stubs.py"}
    assert not [name for name in names if "_pb2" in name]


def test_wheel_of_the_sdist_is_the_wheel_of_the_clone(wheel: Path, wheel_of_sdist: Path) -> None:
    assert names_in(wheel_of_sdist) == names_in(wheel)


def test_sdk_imports_with_only_its_own_dependencies_installed(
    wheel: Path, root: Path, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "--constraint", str(root / "constraints.txt"), str(wheel)], check=True)

    assert printed_by(python, IMPORT_SDK, folder=tmp_path) == "RunServiceStub\n"
    assert not set(printed_by(python, LIST_DISTRIBUTIONS, folder=tmp_path).split()) & ONLY_IN_EXTRAS


@pytest.mark.parametrize(
    "pattern", ["*_pb2*", "interlock/v1/*", "interlock/_vendor/*", "*.pyc", "*.db", "*.log"]
)
def test_nothing_generated_is_in_git(root: Path, pattern: str) -> None:
    command = ["git", "ls-files", pattern]
    assert subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout == ""


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def printed_by(python: str, program: str, *, folder: Path) -> str:
    command = [python, "-c", program]
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout
