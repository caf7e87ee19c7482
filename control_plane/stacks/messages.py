"""Stacks as the API's messages. What is write-only is left out here, and nowhere else."""

from __future__ import annotations

from control_plane.clock import to_timestamp
from control_plane.stacks.snapshot import StackSnapshot
from interlock.v1 import stack_pb2


def to_stack(stack: StackSnapshot) -> stack_pb2.Stack:
    message = stack_pb2.Stack(
        id=stack.id,
        name=stack.name,
        description=stack.description,
        labels=stack.labels,
        source=_source(stack),
        tool=stack.tool,
        custom_init=stack.custom_init,
        custom_plan=stack.custom_plan,
        custom_apply=stack.custom_apply,
        image=stack.image,
        pull_policy=stack.pull_policy,
        pool_id=stack.pool.id,
        hooks=stack.hooks,
        active_run_id=stack.active_run_id or "",
        fencing_token=stack.fence,
        queued_runs=stack.queued_runs,
        etag=stack.etag,
        create_time=to_timestamp(stack.created_at),
        update_time=to_timestamp(stack.updated_at),
        administrative=stack.administrative,
        autodeploy=stack.autodeploy,
        slot_holder=stack.slot_holder,
    )
    if stack.lock is not None:
        message.lock.owner.CopyFrom(stack.lock.owner)
        message.lock.note = stack.lock.note
        message.lock.lock_time.CopyFrom(to_timestamp(stack.lock.locked_at))
    return message


def _source(stack: StackSnapshot) -> stack_pb2.Source:
    if stack.source_kind == "git":
        git = stack_pb2.GitSource(
            repository_url=stack.git_url,
            ref=stack.git_ref,
            has_credential=stack.git_credential_sealed is not None,
        )
        return stack_pb2.Source(git=git, project_root=stack.project_root)
    archive = stack_pb2.ArchiveSource(sha256=stack.archive_sha256, size_bytes=stack.archive_size_bytes)
    if stack.archive_uploaded_at is not None:
        archive.upload_time.CopyFrom(to_timestamp(stack.archive_uploaded_at))
    return stack_pb2.Source(archive=archive, project_root=stack.project_root)
