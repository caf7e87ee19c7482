"""`client.stacks`: stacks, their lock, environment and source."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from interlock import enums
from interlock.request_ids import new_request_id
from interlock.sources import archive
from interlock.transport import Transport
from interlock.upload import Report, pack_and_send, send, unreported
from interlock.v1 import stack_service_pb2 as pb
from interlock.v1.stack_pb2 import (
    Environment,
    EnvironmentVariable,
    Hooks,
    MountedFile,
    PullPolicy,
    Source,
    Stack,
    Tool,
)
from interlock.v1.stack_service_pb2_grpc import StackServiceStub


class Stacks:
    """What runs run on. Creating, updating and deleting need an admin."""

    def __init__(self, transport: Transport, channel: grpc.aio.Channel) -> None:
        self._transport = transport
        self._stub = StackServiceStub(channel)

    async def create(
        self,
        name: str,
        *,
        image: str,
        tool: Tool.ValueType | str,
        source: Source | None = None,
        stack_id: str = "",
        description: str = "",
        labels: Iterable[str] = (),
        custom_init: Iterable[str] = (),
        custom_plan: Iterable[str] = (),
        custom_apply: Iterable[str] = (),
        autodeploy: bool = False,
        pull_policy: PullPolicy.ValueType | str = PullPolicy.PULL_POLICY_UNSPECIFIED,
        pool_id: str = "",
        hooks: Hooks | None = None,
        administrative: bool = False,
        request_id: str | None = None,
    ) -> Stack:
        """Without a `source` the stack's files are uploaded later, by `push`; without a `stack_id` it is
        made from the name. Raises AlreadyExists where the id is taken.
        """
        stack = Stack(
            id=stack_id,
            name=name,
            description=description,
            labels=labels,
            source=source or archive(),
            tool=enums.value(Tool, tool),
            custom_init=custom_init,
            custom_plan=custom_plan,
            custom_apply=custom_apply,
            autodeploy=autodeploy,
            image=image,
            pull_policy=enums.value(PullPolicy, pull_policy),
            pool_id=pool_id,
            hooks=hooks,
            administrative=administrative,
        )
        request = pb.CreateStackRequest(stack=stack, request_id=request_id or new_request_id())
        return await self._transport.call(self._stub.CreateStack, request)

    async def get(self, stack_id: str) -> Stack:
        return await self._transport.call(self._stub.GetStack, pb.GetStackRequest(stack_id=stack_id))

    def list(self, *, labels: Iterable[str] = (), limit: int | None = None) -> AsyncIterator[Stack]:
        """By id; those that carry every one of `labels`."""
        request = pb.ListStacksRequest(labels=labels)
        return self._transport.pages(self._stub.ListStacks, request, lambda page: page.stacks, limit=limit)

    async def update(
        self,
        stack_id: str,
        *,
        etag: str = "",
        name: str | None = None,
        description: str | None = None,
        labels: Iterable[str] | None = None,
        source: Source | None = None,
        tool: Tool.ValueType | str | None = None,
        custom_init: Iterable[str] | None = None,
        custom_plan: Iterable[str] | None = None,
        custom_apply: Iterable[str] | None = None,
        autodeploy: bool | None = None,
        image: str | None = None,
        pull_policy: PullPolicy.ValueType | str | None = None,
        pool_id: str | None = None,
        hooks: Hooks | None = None,
        administrative: bool | None = None,
    ) -> Stack:
        """Changes what is given and leaves the rest. With an `etag`, raises StaleEtag if that is stale."""
        changes = {
            "name": name,
            "description": description,
            "labels": labels,
            "source": source,
            "tool": None if tool is None else enums.value(Tool, tool),
            "custom_init": custom_init,
            "custom_plan": custom_plan,
            "custom_apply": custom_apply,
            "autodeploy": autodeploy,
            "image": image,
            "pull_policy": None if pull_policy is None else enums.value(PullPolicy, pull_policy),
            "pool_id": pool_id,
            "hooks": hooks,
            "administrative": administrative,
        }
        given = {field: value for field, value in changes.items() if value is not None}
        request = pb.UpdateStackRequest(
            stack=Stack(id=stack_id, etag=etag, **given),  # type: ignore[arg-type]  # typed in the signature
            update_mask=FieldMask(paths=given),
        )
        return await self._transport.call(self._stub.UpdateStack, request)

    async def delete(self, stack_id: str, *, etag: str = "") -> None:
        """Raises StackBusy while a run is active or queued. The record of its runs stays."""
        request = pb.DeleteStackRequest(stack_id=stack_id, etag=etag)
        await self._transport.call(self._stub.DeleteStack, request)

    async def lock(self, *stack_ids: str, note: str = "") -> Sequence[Stack]:
        """Takes the lock of all these stacks, or of none: then StackLocked says who holds one."""
        request = pb.LockStacksRequest(stack_ids=stack_ids, note=note)
        return (await self._transport.call(self._stub.LockStacks, request)).stacks

    async def unlock(self, *stack_ids: str) -> Sequence[Stack]:
        """Lets go of all these locks, or of none. Only for the owner and admins."""
        request = pb.UnlockStacksRequest(stack_ids=stack_ids)
        return (await self._transport.call(self._stub.UnlockStacks, request)).stacks

    async def get_environment(self, stack_id: str) -> Environment:
        """Variables and files; secrets without their values."""
        request = pb.GetEnvironmentRequest(stack_id=stack_id)
        return await self._transport.call(self._stub.GetEnvironment, request)

    async def set_environment(
        self,
        stack_id: str,
        *,
        variables: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
        secret_files: Mapping[str, bytes] | None = None,
    ) -> Environment:
        """Adds or replaces variables (by name) and files (by path), all or none; others stay.

        Secrets are write-only, masked in output, and at least 4 bytes long.
        """
        request = pb.SetEnvironmentRequest(
            stack_id=stack_id,
            variables=[
                *(EnvironmentVariable(name=n, value=v) for n, v in (variables or {}).items()),
                *(EnvironmentVariable(name=n, value=v, secret=True) for n, v in (secrets or {}).items()),
            ],
            files=[
                *(MountedFile(path=p, content=c) for p, c in (files or {}).items()),
                *(MountedFile(path=p, content=c, secret=True) for p, c in (secret_files or {}).items()),
            ],
        )
        return await self._transport.call(self._stub.SetEnvironment, request)

    async def unset_environment(
        self, stack_id: str, *, names: Iterable[str] = (), paths: Iterable[str] = ()
    ) -> Environment:
        """Removes variables and files, all or none. Raises NotFound where one is not there."""
        request = pb.UnsetEnvironmentRequest(stack_id=stack_id, names=names, paths=paths)
        return await self._transport.call(self._stub.UnsetEnvironment, request)

    async def upload(self, stack_id: str, archive_file: Path, *, progress: Report = unreported) -> Stack:
        """Stores a tar archive (plain, gzip, bzip2 or xz) as the stack's source.

        `progress(sent_bytes, total_bytes)` is called from the event loop's thread.
        """
        return await send(self._transport, self._stub, stack_id, archive_file, progress)

    async def push(self, stack_id: str, directory: Path, *, progress: Report = unreported) -> Stack:
        """Packs a folder and uploads it, without `.git` and what its `.interlockignore` names.

        The same files give the same archive, byte for byte.
        """
        return await pack_and_send(self._transport, self._stub, stack_id, directory, progress)
