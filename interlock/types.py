"""Every message and enum of the API that callers meet, under one roof."""

from interlock.v1.audit_pb2 import AuditEvent, AuditHead
from interlock.v1.audit_service_pb2 import VerifyLogResponse
from interlock.v1.caller_pb2 import Caller
from interlock.v1.decision_pb2 import Decision, PolicyPrint, PolicyVerdict
from interlock.v1.errors_pb2 import PolicyFinding
from interlock.v1.identity_pb2 import ApiKey
from interlock.v1.policy_pb2 import (
    AttachedPolicy,
    AttachmentReason,
    Policy,
    PolicyKind,
    PolicyRevision,
    PolicyStack,
    RegoVersion,
    ShadowCount,
    ShadowReport,
)
from interlock.v1.pool_pb2 import ContainerOptions, Pool, PoolToken, Runner, RunnerState
from interlock.v1.run_pb2 import (
    Commit,
    LateEvidence,
    Review,
    ReviewVerdict,
    Run,
    RunFailure,
    RunState,
    RunType,
    StateChange,
    Waiting,
    WaitReason,
)
from interlock.v1.run_service_pb2 import ExplainTaskResponse, OutputChunk
from interlock.v1.stack_pb2 import (
    ArchiveSource,
    Environment,
    EnvironmentVariable,
    GitCredential,
    GitSource,
    Hooks,
    MountedFile,
    PullPolicy,
    Source,
    Stack,
    StackLock,
    Tool,
)

__all__ = [
    "ApiKey",
    "ArchiveSource",
    "AttachedPolicy",
    "AttachmentReason",
    "AuditEvent",
    "AuditHead",
    "Caller",
    "Commit",
    "ContainerOptions",
    "Decision",
    "Environment",
    "EnvironmentVariable",
    "ExplainTaskResponse",
    "GitCredential",
    "GitSource",
    "Hooks",
    "LateEvidence",
    "MountedFile",
    "OutputChunk",
    "Policy",
    "PolicyFinding",
    "PolicyKind",
    "PolicyPrint",
    "PolicyRevision",
    "PolicyStack",
    "PolicyVerdict",
    "Pool",
    "PoolToken",
    "PullPolicy",
    "RegoVersion",
    "Review",
    "ReviewVerdict",
    "Run",
    "RunFailure",
    "RunState",
    "RunType",
    "Runner",
    "RunnerState",
    "ShadowCount",
    "ShadowReport",
    "Source",
    "Stack",
    "StackLock",
    "StateChange",
    "Tool",
    "VerifyLogResponse",
    "WaitReason",
    "Waiting",
]
