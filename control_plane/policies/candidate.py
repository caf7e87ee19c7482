"""A text that somebody wants to try: checked as an upload is, and what it takes the place of."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from control_plane import errors
from control_plane.policies import store
from control_plane.policies.engine import PolicyEngine
from control_plane.policies.messages import kind_of
from control_plane.policies.trial import Trial
from control_plane.storage.database import Database
from interlock.v1 import policy_pb2
from policies.workbench.compiler import CompiledPolicy
from policies.workbench.kinds import Kind

_DEFAULT_FILE = "policy.rego"


class Request(Protocol):
    """What requests to try a text have in common."""

    kind: policy_pb2.PolicyKind.ValueType
    body: str
    file_name: str
    replaces_policy_id: str


@dataclass(frozen=True)
class Candidate:
    """`replaces` is the id of the policy whose place it takes; empty where it is added."""

    policy: CompiledPolicy
    file: str
    replaces: str

    @property
    def kind(self) -> Kind:
        return self.policy.kind

    def opened(self, engine: PolicyEngine) -> AbstractAsyncContextManager[Trial]:
        """In an OPA of its own, to be asked."""
        return engine.trial(self.policy, self.file)


async def kind_asked_for(db: Database, engine: PolicyEngine, request: Request) -> Kind:
    """The kind that is given, that of the policy to replace, or the one that the text says it is of.

    Raises:
        NotFound: there is no policy to replace.
        InvalidField: it is of another kind.
        PolicyRefused: nothing says of which kind it is.
    """
    replaces = request.replaces_policy_id
    if not replaces and not request.kind:
        return await engine.guess(request.body, request.file_name or _DEFAULT_FILE)
    if not replaces:
        return kind_of(request.kind)
    row = await db.read(lambda tx: store.find(tx, replaces))
    if row is None:
        raise errors.NotFound("policy", replaces)
    kind = Kind(row.kind)
    if request.kind and kind_of(request.kind) is not kind:
        raise errors.InvalidField("replaces_policy_id", f"{replaces} is a policy of kind {kind.value}")
    return kind


async def checked(engine: PolicyEngine, kind: Kind, request: Request) -> Candidate:
    """Raises PolicyRefused as an upload of the text does."""
    file = request.file_name or _DEFAULT_FILE
    return Candidate(await engine.check(kind, request.body, file), file, request.replaces_policy_id)
