"""A stack as policies see it: the fields that their contract names."""

from __future__ import annotations

import re
from typing import Final

from control_plane.policies.inputs import StackInfo, WorkerPool
from control_plane.stacks.snapshot import StackSnapshot
from interlock.v1 import stack_pb2

# The contract's words for what runs the configuration; everything else is CUSTOM to it.
_WORKFLOW_TOOLS: Final = {
    stack_pb2.TOOL_TERRAFORM: "TERRAFORM_FOSS",
    stack_pb2.TOOL_OPENTOFU: "OPEN_TOFU",
}
# `https://host/org/repo.git`, `ssh://user@host:22/org/repo` and `user@host:org/repo.git`.
_GIT_ADDRESS: Final = re.compile(r"(?:[a-z+]+://[^/]*/|[^/]+?:)(?P<path>.*?)(?:\.git)?/*")
# `stack.state` while nothing runs.
_IDLE: Final = "NONE"


def to_stack_info(stack: StackSnapshot) -> StackInfo:
    namespace, _, repository = _repository_path(stack.git_url).rpartition("/")
    return StackInfo(
        id=stack.id,
        name=stack.name,
        namespace=namespace,
        repository=repository,
        branch=stack.git_ref,
        project_root=stack.project_root or None,
        labels=stack.labels,
        administrative=stack.administrative,
        autodeploy=stack.autodeploy,
        locked_by=stack.lock.owner.login if stack.lock else None,
        state=stack.active_run_state or _IDLE,
        terraform_workflow_tool=_WORKFLOW_TOOLS.get(stack.tool, "CUSTOM"),
        worker_pool=WorkerPool(
            id=stack.pool.id, name=stack.pool.name, labels=stack.pool.labels, public=stack.pool.public
        ),
    )


def _repository_path(address: str) -> str:
    """`org/repo`; empty where the source is no repository."""
    match = _GIT_ADDRESS.fullmatch(address)
    return match["path"].strip("/") if match else ""
