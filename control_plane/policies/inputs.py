"""The documents that policies see. Pure; every field of the contract is there, empty where not known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


@dataclass(frozen=True, kw_only=True)
class ReviewInfo:
    """One person's newest review, as it was given; `state` is the run's of that moment."""

    author: str
    name: str
    teams: Sequence[str]
    state: str
    is_approval: bool
    request: RequestInfo


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """The run that waits for approval. Times are Unix nanoseconds; `command` is None for tracked runs."""

    id: str
    type: str
    state: str
    created_at: int
    updated_at: int
    creator_session: SessionInfo
    command: str | None = None
    branch: str = ""
    commit: Commit = Commit(hash="")
    triggered_by: str | None = None
    flags: Sequence[str] = ()
    changes: Sequence[Document] = ()
    drift_detection: bool = False
    based_on_local_workspace: bool = False
    before_init: Sequence[str] = ()
    project_root: str = ""
    runner_image: str = ""
    terraform_version: str = ""
    user_provided_metadata: Sequence[str] = ()


def approval_input(
    run: RunInfo, stack: StackInfo, current: Iterable[ReviewInfo], older: Iterable[ReviewInfo] = ()
) -> Document:
    """`current` are reviews of the state that the run is in, `older` those of states before."""
    return {
        "reviews": {"current": _reviews(current), "older": _reviews(older)},
        "run": _run(run),
        "stack": _stack(stack),
    }


def login_input(request: RequestInfo, session: SessionInfo) -> Document:
    root = Space()
    return {
        "request": dict(vars(request)),
        "session": dict(vars(session)),
        "spaces": [dict(vars(root))],
        "roles": [],
    }


def access_input(request: RequestInfo, session: SessionInfo, stack: StackInfo) -> Document:
    return {"request": dict(vars(request)), "session": dict(vars(session)), "stack": _stack(stack)}


def task_input(request: RequestInfo, session: SessionInfo, stack: StackInfo, command: str) -> Document:
    return with_command(access_input(request, session, stack), command)


def with_command(access: Document, command: str) -> Document:
    """What task policies see where access policies see `access`."""
    return {**access, "request": {**access["request"], "command": command}}


def _run(run: RunInfo) -> Document:
    document = dict(vars(run))
    runtime = ("before_init", "project_root", "runner_image", "terraform_version")
    return {
        **{name: value for name, value in document.items() if name not in runtime},
        "commit": {**vars(run.commit), "exist_on_tracked_branch": bool(run.commit.hash)},
        "creator_session": dict(vars(run.creator_session)),
        "runtime_config": {name: document[name] for name in runtime},
    }


def _reviews(reviews: Iterable[ReviewInfo]) -> Document:
    given = list(reviews)
    return {
        "approvals": [_review(review) for review in given if review.is_approval],
        "rejections": [_review(review) for review in given if not review.is_approval],
    }


def _review(review: ReviewInfo) -> Document:
    return {
        "author": review.author,
        "author_roles": [],
        "request": dict(vars(review.request)),
        "session": {"login": review.author, "name": review.name, "teams": review.teams},
        "state": review.state,
    }


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
