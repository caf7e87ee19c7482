"""The documents that policies see. Pure; every field of the contract is there, empty where not known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Document: TypeAlias = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RequestInfo:
    """The call. `timestamp_ns` is the only clock that policies have: Unix nanoseconds."""

    remote_ip: str
    timestamp_ns: int


@dataclass(frozen=True, kw_only=True)
class SessionInfo:
    """Who calls, from the access token. `machine` is an API key that stands for no person."""

    login: str
    name: str
    admin: bool = False
    teams: Sequence[str] = ()
    machine: bool = False
    member: bool = True
    creator_ip: str = ""
    account_name: str = ""
    stack_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Role:
    id: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Space:
    """Interlock has one space; the fields are there for policies that name it."""

    id: str = "root"
    name: str = "root"
    labels: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class WorkerPool:
    """The stack's pool."""

    id: str = ""
    name: str = ""
    labels: Sequence[str] = ()
    public: bool = True


@dataclass(frozen=True, kw_only=True)
class Commit:
    """`created_at` is Unix nanoseconds."""

    hash: str
    branch: str = ""
    author: str = ""
    created_at: int = 0
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class StackInfo:
    """The stack, from its stored row. `locked_by` is the login of the lock's owner."""

    id: str
    name: str
    namespace: str = ""
    repository: str = ""
    branch: str = ""
    project_root: str | None = None
    additional_project_globs: Sequence[str] = ()
    labels: Sequence[str] = ()
    administrative: bool = False
    autodeploy: bool = False
    locked_by: str | None = None
    state: str = "NONE"
    terraform_version: str | None = None
    terraform_workflow_tool: str = "CUSTOM"
    contexts: Sequence[str] = ()
    roles: Sequence[Role] = ()
    space: Space = Space()
    worker_pool: WorkerPool = WorkerPool()
    tracked_commit: Commit | None = None


def access_input(request: RequestInfo, session: SessionInfo, stack: StackInfo) -> Document:
    return {"request": dict(vars(request)), "session": dict(vars(session)), "stack": _stack(stack)}


def task_input(request: RequestInfo, session: SessionInfo, stack: StackInfo, command: str) -> Document:
    return with_command(access_input(request, session, stack), command)


def with_command(access: Document, command: str) -> Document:
    """What task policies see where access policies see `access`."""
    return {**access, "request": {**access["request"], "command": command}}


def _stack(stack: StackInfo) -> Document:
    """As dataclasses.asdict makes it, in a twentieth of the time: each decision needs one."""
    commit = stack.tracked_commit
    return {
        **vars(stack),
        "roles": [dict(vars(role)) for role in stack.roles],
        "space": dict(vars(stack.space)),
        "worker_pool": dict(vars(stack.worker_pool)),
        "tracked_commit": dict(vars(commit)) if commit else None,
    }
