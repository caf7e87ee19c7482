"""What variables and mounted files must be. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from control_plane import errors
from control_plane.stacks.fields import Violation
from interlock.v1 import stack_pb2

# Shorter ones cannot be masked: they would be found in ordinary output all the time.
MIN_SECRET_BYTES: Final = 4
RESERVED_PREFIXES: Final = ("INTERLOCK_", "__interlock_")
# Shells keep these for themselves and refuse to set them.
SHELLS_OWN_NAMES: Final = frozenset(
    {"BASHOPTS", "BASH_VERSINFO", "EUID", "LINENO", "OPTIND", "PPID", "SHELLOPTS", "UID"}
)
MAX_VARIABLES: Final = 1000
MAX_FILES: Final = 100
# Of all values and contents together: they travel to the runner in one message.
MAX_TOTAL_BYTES: Final = 2 * 1024 * 1024

# The folder in the workspace that the stack's source takes.
_SOURCE_FOLDER: Final = "source"
_MAX_NAME_BYTES: Final = 255


def check(variables: Sequence[stack_pb2.EnvironmentVariable], files: Sequence[stack_pb2.MountedFile]) -> None:
    """Raises InvalidField with all that is wrong with these variables and files."""
    violations = [*_variable_violations(variables), *_file_violations(files)]
    if not variables and not files:
        violations.append(("variables", "is empty, and so is `files`; give at least one"))
    if violations:
        raise errors.InvalidField.of(violations)


def check_whole(stack_id: str, paths: Collection[str], variables: int, total_bytes: int) -> None:
    """Checks a stack's variables and files together, those that stay included.

    Raises:
        errors.InvalidField: one file's path is a folder in another's.
        errors.LimitExceeded: they are too many or too large.
    """
    folders = {path[:end]: path for path in paths for end, char in enumerate(path) if char == "/"}
    if conflicts := sorted(set(paths) & folders.keys()):
        problem = f"{conflicts[0]!r} is a file and, for {folders[conflicts[0]]!r}, a folder"
        raise errors.InvalidField("files", problem)
    if variables > MAX_VARIABLES or len(paths) > MAX_FILES or total_bytes > MAX_TOTAL_BYTES:
        raise errors.LimitExceeded(
            f"stack {stack_id!r} would have {variables} variables, {len(paths)} files, {total_bytes} bytes; "
            f"at most {MAX_VARIABLES}, {MAX_FILES} and {MAX_TOTAL_BYTES} are allowed"
        )


def problem_with_path(path: str) -> str | None:
    """A file's path is relative to /mnt/workspace and written in its shortest form."""
    parts = path.split("/")
    if path.startswith("/") or ".." in parts:
        return "leaves the workspace: it must be relative, without '..'"
    if "" in parts or "." in parts:
        return "is no file's path: no empty or '.' parts, no '/' at its end"
    if any(char < " " or char == "\x7f" for char in path):
        return "has a control character in it"
    if any(len(part.encode()) > _MAX_NAME_BYTES for part in parts):
        return f"has a part longer than {_MAX_NAME_BYTES} bytes"
    if path == _SOURCE_FOLDER:
        return "is the folder of the stack's source; name a file in it"
    return None


def _variable_violations(variables: Sequence[stack_pb2.EnvironmentVariable]) -> Iterator[Violation]:
    seen = Counter(variable.name for variable in variables)
    for index, variable in enumerate(variables):
        place = f"variables[{index}]"
        if variable.name.startswith(RESERVED_PREFIXES):
            yield (
                f"{place}.name",
                f"{variable.name!r}: names that begin with {' or '.join(RESERVED_PREFIXES)} are taken",
            )
        if variable.name in SHELLS_OWN_NAMES:
            yield f"{place}.name", f"{variable.name!r} belongs to the shell, which does not let it be set"
        if seen[variable.name] > 1:
            yield f"{place}.name", f"{variable.name!r} is given more than once"
        if variable.secret and len(variable.value.encode()) < MIN_SECRET_BYTES:
            yield f"{place}.value", _too_short(variable.name)


def _file_violations(files: Sequence[stack_pb2.MountedFile]) -> Iterator[Violation]:
    seen = Counter(file.path for file in files)
    for index, file in enumerate(files):
        place = f"files[{index}]"
        if problem := problem_with_path(file.path):
            yield f"{place}.path", problem
        if seen[file.path] > 1:
            yield f"{place}.path", f"{file.path!r} is given more than once"
        if file.secret and len(file.content) < MIN_SECRET_BYTES:
            yield f"{place}.content", _too_short(file.path)


def _too_short(name: str) -> str:
    return (
        f"of the secret {name!r} has under {MIN_SECRET_BYTES} bytes, which cannot be masked: "
        "it would turn up in ordinary output; make it longer, or store it without `secret`"
    )
