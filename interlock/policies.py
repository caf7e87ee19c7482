"""`client.policies`: Rego and what it is attached to."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from interlock import enums
from interlock.request_ids import new_request_id
from interlock.times import timestamp
from interlock.transport import Transport
from interlock.v1 import policy_service_pb2 as pb
from interlock.v1.backtest_pb2 import BacktestChange, BacktestProgress, BacktestReport, Simulation
from interlock.v1.policy_pb2 import (
    AttachedPolicy,
    Policy,
    PolicyKind,
    PolicyRevision,
    PolicyStack,
    ShadowReport,
)
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
        tests: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> Policy:
        """`kind` is "task", "access", "approval" or "login". A label `autoattach:LABEL` attaches it to
        every stack with LABEL, `autoattach:*` to all. `tests` are texts by file name, which have to pass.

        Raises PolicyRefused, whose `findings` name file (your `file_name` or the test's), line and column.
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
            policy=policy,
            request_id=request_id or new_request_id(),
            file_name=file_name,
            tests=_test_files(tests),
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
        tests: Mapping[str, str] | None = None,
    ) -> Policy:
        """Changes what is given and leaves the rest. With an `etag`, raises StaleEtag if that is stale.

        `tests` are of the new `body`, by file name.
        """
        changes = {"name": name, "description": description, "body": body, "labels": labels}
        given = {field: value for field, value in changes.items() if value is not None}
        request = pb.UpdatePolicyRequest(
            policy=Policy(id=policy_id, etag=etag, **given),  # type: ignore[arg-type]  # typed in the signature
            update_mask=FieldMask(paths=given),
            file_name=file_name,
            tests=_test_files(tests),
        )
        return await self._transport.call(self._stub.UpdatePolicy, request)

    async def delete(self, policy_id: str, *, etag: str = "") -> None:
        """Detaches it everywhere and deletes it."""
        request = pb.DeletePolicyRequest(policy_id=policy_id, etag=etag)
        await self._transport.call(self._stub.DeletePolicy, request)

    async def attach(self, policy_id: str, stack_id: str, *, shadow: bool = False) -> Policy:
        """With `shadow`, it is evaluated and recorded with every decision and never counts. Attaching again is
        harmless, and changes just that."""
        request = pb.AttachPolicyRequest(policy_id=policy_id, stack_id=stack_id, shadow=shadow)
        return await self._transport.call(self._stub.AttachPolicy, request)

    async def detach(self, policy_id: str, stack_id: str) -> Policy:
        """Raises NotFound where it is not attached by hand."""
        request = pb.DetachPolicyRequest(policy_id=policy_id, stack_id=stack_id)
        return await self._transport.call(self._stub.DetachPolicy, request)

    async def attached(self, stack_id: str) -> Sequence[AttachedPolicy]:
        """Which policies apply to a stack, by id, and why."""
        request = pb.ListAttachedPoliciesRequest(stack_id=stack_id)
        return (await self._transport.call(self._stub.ListAttachedPolicies, request)).policies

    def stacks(self, policy_id: str, *, limit: int | None = None) -> AsyncIterator[PolicyStack]:
        """Which stacks a policy applies to, by id, and why: those that the caller may read."""
        request = pb.ListPolicyStacksRequest(policy_id=policy_id)
        return self._transport.pages(
            self._stub.ListPolicyStacks, request, lambda page: page.stacks, limit=limit
        )

    def history(self, policy_id: str, *, limit: int | None = None) -> AsyncIterator[PolicyRevision]:
        """Every revision, newest first, each with its difference from the one before; of a deleted policy, too."""
        request = pb.ListPolicyRevisionsRequest(policy_id=policy_id)
        return self._transport.pages(
            self._stub.ListPolicyRevisions, request, lambda page: page.revisions, limit=limit
        )

    async def revision(self, policy_id: str, revision: int) -> PolicyRevision:
        """One revision, as decisions name it; of a deleted policy, too."""
        request = pb.GetPolicyRevisionRequest(policy_id=policy_id, revision=revision)
        return await self._transport.call(self._stub.GetPolicyRevision, request)

    async def release(self, policy_id: str) -> Policy:
        """Ends its quarantine: it is asked again. Harmless where it is in none."""
        return await self._transport.call(
            self._stub.ReleasePolicy, pb.ReleasePolicyRequest(policy_id=policy_id)
        )

    async def rollback(
        self, policy_id: str, revision: int, *, etag: str = "", request_id: str | None = None
    ) -> Policy:
        """Makes a new revision that has all that an earlier one had.

        Raises NotFound where the policy has no such revision, StaleEtag, PolicyRefused.
        """
        request = pb.RollbackPolicyRequest(
            policy_id=policy_id, revision=revision, etag=etag, request_id=request_id or new_request_id()
        )
        return await self._transport.call(self._stub.RollbackPolicy, request)

    async def shadow_report(self, policy_id: str, *, since: datetime | None = None) -> ShadowReport:
        """What would have changed, had a policy in shadow mode counted."""
        request = pb.GetShadowReportRequest(policy_id=policy_id, since=timestamp(since))
        return await self._transport.call(self._stub.GetShadowReport, request)

    async def simulate(
        self,
        body: str,
        *,
        kind: PolicyKind.ValueType | str = PolicyKind.POLICY_KIND_UNSPECIFIED,
        replaces: str = "",
        stack_id: str = "",
        command: str = "",
        run_id: str = "",
        as_login: str = "",
        remote_ip: str = "",
        file_name: str = "",
    ) -> Simulation:
        """What a text that is not stored would say now, alone and together with the policies in force.

        `replaces` is the id of a policy that it takes the place of. `as_login` and `remote_ip` say whose call it would
        be; they need an admin. Raises PolicyRefused.
        """
        request = pb.SimulatePolicyRequest(
            kind=enums.value(PolicyKind, kind),
            body=body,
            file_name=file_name,
            replaces_policy_id=replaces,
            stack_id=stack_id,
            command=command,
            run_id=run_id,
            as_login=as_login,
            remote_ip=remote_ip,
        )
        return (await self._transport.call(self._stub.SimulatePolicy, request)).simulation

    async def backtest(
        self,
        body: str,
        *,
        kind: PolicyKind.ValueType | str = PolicyKind.POLICY_KIND_UNSPECIFIED,
        replaces: str = "",
        stack_id: str = "",
        label: str = "",
        since: datetime | None = None,
        max_changes: int = 0,
        file_name: str = "",
    ) -> AsyncIterator[BacktestProgress | BacktestChange | BacktestReport]:
        """Evaluates a text that is not stored on the input of every recorded decision of its kind.

        Yields a progress about once a second, changes as they are found (the first `max_changes`; 0 is 100), and last
        the report. Raises PolicyRefused; PolicyFailed where the text takes too much time or memory again and again.
        """
        request = pb.BacktestPolicyRequest(
            kind=enums.value(PolicyKind, kind),
            body=body,
            file_name=file_name,
            replaces_policy_id=replaces,
            stack_id=stack_id,
            label=label,
            since=timestamp(since),
            max_changes=max_changes,
        )
        async for response in self._transport.stream(self._stub.BacktestPolicy, request):
            match response.WhichOneof("event"):
                case "progress":
                    yield response.progress
                case "change":
                    yield response.change
                case "report":
                    yield response.report


def _test_files(tests: Mapping[str, str] | None) -> list[pb.PolicyTestFile]:
    return [pb.PolicyTestFile(file_name=name, body=body) for name, body in (tests or {}).items()]
