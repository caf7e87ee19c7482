"""What a pool may ask of containers, and that none of it reaches the host's engine."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from control_plane.errors import InvalidField
from control_plane.pools import container_options
from interlock.v1.pool_pb2 import ContainerOptions


def violations(options: ContainerOptions) -> list[tuple[str, str]]:
    try:
        container_options.check(options, "pool.container")
    except InvalidField as error:
        return error.violations
    return []


@pytest.mark.parametrize(
    "mount",
    [
        "/srv/cache:/cache",
        "/srv/cache:/cache:ro",
        "/etc/ssl/certs/:/etc/ssl/certs:ro",
        "/var/cache/terraform:/plugins",
        "/run/secrets/x.sock:/x.sock",
        "/home/proc:/devices",
    ],
)
def test_ordinary_mounts_are_taken(mount: str) -> None:
    assert violations(ContainerOptions(mounts=[mount])) == []


@pytest.mark.parametrize(
    "host",
    [
        "/var/run/docker.sock",
        "/run/docker.sock",
        "//run//docker.sock",
        "//run/containerd",
        "/run/./docker.sock",
        "/run/docker.sock/",
        "/",
        "//",
        "/.",
        "/run",
        "/run/",
        "/var",
        "/var/run",
        "/var/run/",
        "/var/lib",
        "/var/lib/docker",
        "/var/lib/docker/volumes",
        "/run/containerd/containerd.sock",
        "/var/run/podman/podman.sock",
        "/run/user/1000/docker.sock",
        "/proc",
        "/proc/1/root/run/docker.sock",
        "/srv/link/docker.sock",
    ],
)
def test_no_spelling_of_a_path_to_the_engine_is_taken(host: str) -> None:
    ((field, problem),) = violations(ContainerOptions(mounts=["/srv:/srv", f"{host}:/x"]))

    assert field == "pool.container.mounts[1]"
    assert "container engine" in problem


@pytest.mark.parametrize(
    ("mount", "problem"),
    [
        ("/srv", "HOST_PATH:CONTAINER_PATH"),
        ("/srv:/a:rw", "HOST_PATH:CONTAINER_PATH"),
        ("/srv:/a:ro:z", "HOST_PATH:CONTAINER_PATH"),
        ("volume:/a", "host path must be absolute"),
        ("./srv:/a", "host path must be absolute"),
        ("/srv/../run/docker.sock:/a", "no `..`"),
        ("/srv\n:/a", "control characters"),
        ("/srv:a", "container path must be absolute"),
        ("/srv:/a/../b", "no `..`"),
        ("/srv:/", "the container itself needs"),
        ("/srv:/mnt", "the container itself needs"),
        ("/srv:/mnt/workspace/source", "the container itself needs"),
        ("/srv:/proc/sys", "the container itself needs"),
        (":", "host path must be absolute"),
    ],
)
def test_a_mount_that_cannot_be_is_refused_with_its_place(mount: str, problem: str) -> None:
    ((field, told),) = violations(ContainerOptions(mounts=[mount]))

    assert field == "pool.container.mounts[0]"
    assert problem in told


def test_two_mounts_in_one_place_are_refused() -> None:
    ((field, problem),) = violations(ContainerOptions(mounts=["/srv/a:/x", "/srv/b:/x/"]))

    assert field == "pool.container.mounts[1]"
    assert "mounted twice" in problem


def test_limits_that_no_engine_takes_are_refused_all_at_once() -> None:
    options = ContainerOptions(
        memory_bytes=1024, no_output_timeout=Duration(seconds=-1), total_timeout=Duration(seconds=10**9)
    )

    assert [field for field, _ in violations(options)] == [
        "pool.container.memory_bytes",
        "pool.container.no_output_timeout",
        "pool.container.total_timeout",
    ]


def test_defaults_are_taken() -> None:
    assert violations(ContainerOptions()) == []
    assert violations(ContainerOptions(memory_bytes=2**30, total_timeout=Duration(seconds=60))) == []
