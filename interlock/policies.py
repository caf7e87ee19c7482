"""`client.policies`: Rego and what it is attached to."""

from collections.abc import AsyncIterator, Iterable

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from interlock import enums
from interlock.request_ids import new_request_id
from interlock.transport import Transport
from interlock.v1 import policy_service_pb2 as pb
from interlock.v1.policy_pb2 import Policy, PolicyKind
from interlock.v1.policy_service_pb2_grpc import PolicyServiceStub


class Policies:
    """Reading needs any caller, changing an admin. A change counts for decisions begun after its call."""

    def __init__(self, transport: Transport, channel: grpc.aio.Channel) -> None:
        self._transport = transport
        self._stub = PolicyServiceStub(channel)

    async def create(
        self,
        name: str,
        body: str,
        *,
        kind: PolicyKind.ValueType | str,
        policy_id: str = "",
        description: str = "",
        labels: Iterable[str] = (),
        file_name: str = "",
        request_id: str | None = None,
    ) -> Policy:
        """`kind` is "task" or "access". A label `autoattach:LABEL` attaches it to every stack with LABEL,
        `autoattach:*` to all.

        Raises PolicyRefused, whose `findings` name file (your `file_name`), line and column.
        """
        policy = Policy(
            id=policy_id,
            name=name,
            description=description,
            kind=enums.value(PolicyKind, kind),
            body=body,
            labels=labels,
        )
        request = pb.CreatePolicyRequest(
            policy=policy, request_id=request_id or new_request_id(), file_name=file_name
        )
        return await self._transport.call(self._stub.CreatePolicy, request)

    async def get(self, policy_id: str) -> Policy:
        return await self._transport.call(self._stub.GetPolicy, pb.GetPolicyRequest(policy_id=policy_id))

    def list(
        self,
        *,
        stack_id: str = "",
        kind: PolicyKind.ValueType | str = PolicyKind.POLICY_KIND_UNSPECIFIED,
        limit: int | None = None,
    ) -> AsyncIterator[Policy]:
        """By id, without their bodies; with `stack_id` those that apply to it, by hand or by label."""
        request = pb.ListPoliciesRequest(stack_id=stack_id, kind=enums.value(PolicyKind, kind))
        return self._transport.pages(
            self._stub.ListPolicies, request, lambda page: page.policies, limit=limit
        )

    async def update(
        self,
        policy_id: str,
        *,
        etag: str = "",
        name: str | None = None,
        description: str | None = None,
        body: str | None = None,
        labels: Iterable[str] | None = None,
        file_name: str = "",
    ) -> Policy:
        """Changes what is given and leaves the rest. With an `etag`, raises StaleEtag if that is stale."""
        changes = {"name": name, "description": description, "body": body, "labels": labels}
        given = {field: value for field, value in changes.items() if value is not None}
        request = pb.UpdatePolicyRequest(
            policy=Policy(id=policy_id, etag=etag, **given),  # type: ignore[arg-type]  # typed in the signature
            update_mask=FieldMask(paths=given),
            file_name=file_name,
        )
        return await self._transport.call(self._stub.UpdatePolicy, request)

    async def delete(self, policy_id: str, *, etag: str = "") -> None:
        """Detaches it everywhere and deletes it."""
        request = pb.DeletePolicyRequest(policy_id=policy_id, etag=etag)
        await self._transport.call(self._stub.DeletePolicy, request)

    async def attach(self, policy_id: str, stack_id: str) -> Policy:
        request = pb.AttachPolicyRequest(policy_id=policy_id, stack_id=stack_id)
        return await self._transport.call(self._stub.AttachPolicy, request)

    async def detach(self, policy_id: str, stack_id: str) -> Policy:
        """Raises NotFound where it is not attached by hand."""
        request = pb.DetachPolicyRequest(policy_id=policy_id, stack_id=stack_id)
        return await self._transport.call(self._stub.DetachPolicy, request)
