"""Mounts lead where their links lead."""

import socket
from pathlib import Path

import pytest

from runner import mounts
from runner.errors import MountRefused


def test_a_folder_may_be_mounted(tmp_path: Path) -> None:
    mounts.check([f"{tmp_path}:/mnt/state", "/no/such/folder:/mnt/other:ro"])


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/run",
        "/run/user",
        "/run/user/1000",
        "/var/lib",
        "/var/lib/docker",
        "/var/lib/docker/volumes",
        "/proc/1/root",
    ],
)
def test_a_link_to_what_belongs_to_the_engine_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "innocent").symlink_to(target)
    with pytest.raises(MountRefused, match="the pool mounts"):
        mounts.check([f"{tmp_path}/innocent:/mnt/state"])


def test_any_socket_is_refused(short_tmp: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_tmp / "s"))
        (short_tmp / "link").symlink_to(short_tmp / "s")
        with pytest.raises(MountRefused):
            mounts.check([f"{short_tmp}/link:/mnt/s"])
