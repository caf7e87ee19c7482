"""What variables and mounted files must be."""

from __future__ import annotations

import pytest

from control_plane import errors
from control_plane.stacks import environment_fields
from interlock.v1.stack_pb2 import EnvironmentVariable, MountedFile


def violations(*values: EnvironmentVariable | MountedFile) -> list[tuple[str, str]]:
    variables = [value for value in values if isinstance(value, EnvironmentVariable)]
    files = [value for value in values if isinstance(value, MountedFile)]
    with pytest.raises(errors.InvalidField) as caught:
        environment_fields.check(variables, files)
    return caught.value.violations


def test_ordinary_variables_and_files_are_accepted() -> None:
    environment_fields.check(
        [
            EnvironmentVariable(name="PATH", value="/opt/bin:/usr/bin"),
            EnvironmentVariable(name="EMPTY"),
            EnvironmentVariable(name="TOKEN", value="abcd", secret=True),
        ],
        [
            MountedFile(path="source/prod.auto.tfvars", content=b""),
            MountedFile(path=".terraformrc", content=b"\0\xff\0\xff", secret=True),
        ],
    )


def test_a_secret_variable_under_4_bytes_is_refused_with_the_reason() -> None:
    [(field, problem)] = violations(EnvironmentVariable(name="PIN", value="123", secret=True))
    assert field == "variables[0].value"
    assert "cannot be masked" in problem


def test_a_secret_is_measured_in_bytes() -> None:
    environment_fields.check([EnvironmentVariable(name="PIN", value="ßß", secret=True)], [])


def test_a_secret_file_under_4_bytes_is_refused_with_the_reason() -> None:
    [(field, problem)] = violations(MountedFile(path="pin", content=b"123", secret=True))
    assert field == "files[0].content"
    assert "cannot be masked" in problem


def test_the_names_of_interlock_are_taken() -> None:
    [(field, problem)] = violations(
        EnvironmentVariable(name="OK"), EnvironmentVariable(name="INTERLOCK_RUN_ID", value="x")
    )
    assert (field, "INTERLOCK_RUN_ID" in problem) == ("variables[1].name", True)


@pytest.mark.parametrize("path", ["/etc/passwd", "..", "../x", "a/../../x", "source/../../x"])
def test_a_file_that_leaves_the_workspace_is_refused(path: str) -> None:
    [(field, problem)] = violations(MountedFile(path=path))
    assert field == "files[0].path"
    assert "leaves the workspace" in problem


@pytest.mark.parametrize("path", [".", "a/", "a//b", "./a", "a/.", "source", "a\nb", "a\0b", "x" * 256])
def test_a_path_that_names_no_file_is_refused(path: str) -> None:
    [(field, _)] = violations(MountedFile(path=path))
    assert field == "files[0].path"


def test_a_name_or_path_given_twice_is_refused() -> None:
    twice = EnvironmentVariable(name="A"), EnvironmentVariable(name="A")
    assert [field for field, _ in violations(*twice)] == ["variables[0].name", "variables[1].name"]
    assert len(violations(MountedFile(path="a"), MountedFile(path="a"))) == 2


def test_setting_nothing_is_refused() -> None:
    assert violations()[0][0] == "variables"


def test_a_file_cannot_be_another_files_folder() -> None:
    with pytest.raises(errors.InvalidField, match="'a/b' is a file and, for 'a/b/c', a folder"):
        environment_fields.check_whole("network", ["a/b", "a/b/c", "d"], variables=0, total_bytes=0)


def test_the_environment_as_a_whole_is_limited() -> None:
    environment_fields.check_whole("network", [], variables=1000, total_bytes=2 * 1024 * 1024)
    for variables, total in ((1001, 0), (0, 2 * 1024 * 1024 + 1)):
        with pytest.raises(errors.LimitExceeded, match="at most 1000, 100 and 2097152"):
            environment_fields.check_whole("network", [], variables=variables, total_bytes=total)
