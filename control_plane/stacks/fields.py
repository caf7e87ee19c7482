"""What a stack's fields must be, beyond the rules that stack.proto states. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final, TypeAlias

from control_plane import errors
from control_plane.stacks import git_url
from control_plane.stacks.git_url import GitRules
from interlock.v1 import stack_pb2

# (field, problem)
Violation: TypeAlias = tuple[str, str]

# What UpdateStack may change, and so may stand in its mask.
CHANGEABLE: Final = (
    "name",
    "description",
    "labels",
    "source",
    "tool",
    "custom_init",
    "image",
    "pull_policy",
    "pool_id",
    "hooks",
    "administrative",
    "custom_plan",
    "custom_apply",
    "autodeploy",
)


def check(stack: stack_pb2.Stack, paths: Collection[str], rules: GitRules) -> None:
    """Raises InvalidField with all that is wrong with these fields of the stack."""
    violations = [violation for path in paths for violation in _CHECKS.get(path, _anything)(stack, rules)]
    if {"tool", "custom_init"} & set(paths) and stack.custom_init and stack.tool != stack_pb2.TOOL_CUSTOM:
        violations.append(("stack.custom_init", "is for TOOL_CUSTOM only; other tools bring their own init"))
    if {"custom_plan", "custom_apply"} & set(paths) and bool(stack.custom_plan) != bool(stack.custom_apply):
        lacking = "custom_apply" if stack.custom_plan else "custom_plan"
        violations.append((f"stack.{lacking}", "is needed with the other: a plan is there to be applied"))
    if violations:
        raise errors.InvalidField.of(violations)


def check_mask(paths: Collection[str]) -> None:
    """Raises InvalidField where the mask is empty or names what cannot be changed."""
    choice = ", ".join(CHANGEABLE)
    if not paths:
        raise errors.InvalidField("update_mask", f"is empty; name any of: {choice}")
    if unknown := [path for path in paths if path not in CHANGEABLE]:
        raise errors.InvalidField("update_mask", f"{unknown[0]!r} cannot be changed; name any of: {choice}")


def normal_root(project_root: str) -> str:
    """`infra/prod` for `./infra/prod/`; "" for the top."""
    return "/".join(part for part in project_root.split("/") if part not in ("", "."))


def _name(stack: stack_pb2.Stack, _: GitRules) -> Iterator[Violation]:
    if not stack.name:
        yield "stack.name", "is needed"


def _image(stack: stack_pb2.Stack, _: GitRules) -> Iterator[Violation]:
    if not stack.image:
        yield "stack.image", "is needed: any image that has `sh`"


def _tool(stack: stack_pb2.Stack, _: GitRules) -> Iterator[Violation]:
    if stack.tool == stack_pb2.TOOL_UNSPECIFIED:
        yield "stack.tool", "is needed; TOOL_CUSTOM where there is nothing to initialise"


def _source(stack: stack_pb2.Stack, rules: GitRules) -> Iterator[Violation]:
    root = stack.source.project_root
    if root.startswith(("/", "-")) or ".." in root.split("/"):
        yield "stack.source.project_root", "is no folder inside the source: no '..', no '/' or '-' in front"
    if stack.source.WhichOneof("kind") != "git":
        return
    git = stack.source.git
    if problem := git_url.problem_with_ref(git.ref):
        yield "stack.source.git.ref", problem
    if problem := git_url.problem_with_url(git.repository_url, rules):
        yield "stack.source.git.repository_url", problem
    elif problem := git_url.problem_with_credential(git.repository_url, git.credential):
        yield "stack.source.git.credential", problem


def _anything(_stack: stack_pb2.Stack, _rules: GitRules) -> Iterator[Violation]:
    yield from ()


_CHECKS: Final[dict[str, Callable[[stack_pb2.Stack, GitRules], Iterator[Violation]]]] = {
    "name": _name,
    "image": _image,
    "tool": _tool,
    "source": _source,
}
