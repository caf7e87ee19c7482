"""From a stack's message to its columns."""

from __future__ import annotations

from collections.abc import Collection

from control_plane import errors, ids
from control_plane.keys import Sealer
from control_plane.pools.pool import PUBLIC_POOL_ID
from control_plane.stacks import fields, git_url
from control_plane.stacks.snapshot import StackSnapshot
from interlock.v1 import stack_pb2

_GIT_FIELD = "stack.source.git.credential"


def id_of(stack: stack_pb2.Stack) -> str:
    """The id that a new stack gets: the chosen one, or one made from its name.

    Raises:
        errors.InvalidField: the name has nothing to make an id from.
    """
    stack_id = stack.id or ids.slug(stack.name)
    if not stack_id:
        raise errors.InvalidField("stack.id", f"cannot be made from the name {stack.name!r}; choose one")
    return stack_id


def columns(
    stack: stack_pb2.Stack, paths: Collection[str], sealer: Sealer, *, before: StackSnapshot | None
) -> dict[str, object]:
    """The columns of these fields. `before` is the stack as it is, None for a new one."""
    values: dict[str, object] = {}
    for path in paths:
        match path:
            case "source":
                values |= _source_columns(stack, sealer, before)
            case "labels" | "custom_init" | "custom_plan" | "custom_apply":
                values[path] = list(getattr(stack, path))
            case "hooks":
                values["hooks"] = stack.hooks.SerializeToString(deterministic=True)
            case "pull_policy":
                values["pull_policy"] = stack.pull_policy or stack_pb2.PULL_POLICY_IF_NOT_PRESENT
            case "pool_id":
                values["pool_id"] = stack.pool_id or PUBLIC_POOL_ID
            case _:
                values[path] = getattr(stack, path)
    return values


def credential_context(stack_id: str) -> str:
    """Where a stack's git credential is sealed to."""
    return f"git-credential/{stack_id}"


def _source_columns(
    stack: stack_pb2.Stack, sealer: Sealer, before: StackSnapshot | None
) -> dict[str, object]:
    root = fields.normal_root(stack.source.project_root)
    if stack.source.WhichOneof("kind") == "git":
        git = stack.source.git
        return {
            "source_kind": "git",
            "git_url": git.repository_url,
            "git_ref": git.ref,
            "git_credential_sealed": _sealed_credential(stack, sealer, before),
            "project_root": root,
            "archive_sha256": "",
            "archive_size_bytes": 0,
            "archive_uploaded_at": None,
        }
    return {
        "source_kind": "archive",
        "git_url": "",
        "git_ref": "",
        "git_credential_sealed": None,
        "project_root": root,
    }


def _sealed_credential(stack: stack_pb2.Stack, sealer: Sealer, before: StackSnapshot | None) -> bytes | None:
    git = stack.source.git
    if git.HasField("credential"):
        plain = git.credential.SerializeToString(deterministic=True)
        return sealer.seal(plain, context=credential_context(stack.id)) if plain else None
    if before is None or before.git_credential_sealed is None:
        return None
    # A stored credential is write-only: pointing the stack at another host must not show it there.
    if git_url.origin(before.git_url) != git_url.origin(git.repository_url):
        problem = "is stored for another host; give it again, or an empty one to remove it"
        raise errors.InvalidField(_GIT_FIELD, problem)
    return before.git_credential_sealed
