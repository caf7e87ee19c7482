"""The input documents fit the schemas that uploads are checked against, by OPA's own judgement."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.policies.inputs import (
    Commit,
    ReviewInfo,
    RunInfo,
    SessionInfo,
    StackInfo,
    access_input,
    approval_input,
    login_input,
    task_input,
)
from policies.workbench.kinds import Kind
from tests.integration.policies.house import ANN, REQUEST, STACK, fits

FULL_STACK = StackInfo(
    id="s", name="S", project_root="net", locked_by="ann", terraform_version="1.9.0",
    tracked_commit=Commit(hash="c0ffee"),
)  # fmt: skip
MACHINE = SessionInfo(login="key_1", name="ci", machine=True, stack_id="other")


@pytest.mark.parametrize(("session", "stack"), [(ANN, STACK), (MACHINE, FULL_STACK)])
def test_an_input_fits_its_kinds_schema(
    opa_path: Path, tmp_path: Path, session: SessionInfo, stack: StackInfo
) -> None:
    assert fits(opa_path, Kind.ACCESS, access_input(REQUEST, session, stack), tmp_path)
    assert fits(opa_path, Kind.TASK, task_input(REQUEST, session, stack, "ls"), tmp_path)


@pytest.mark.parametrize(
    "run",
    [
        RunInfo(id="r", type="TASK", state="QUEUED", created_at=1, updated_at=1, creator_session=ANN, command="ls"),
        RunInfo(
            id="r", type="TRACKED", state="UNCONFIRMED", created_at=1, updated_at=1, creator_session=MACHINE,
            commit=Commit(hash="c0ffee"), triggered_by="ann", changes=[{"action": "added"}], flags=["f"],
        ),
    ],
)  # fmt: skip
def test_an_approval_input_fits_its_schema(opa_path: Path, tmp_path: Path, run: RunInfo) -> None:
    reviews = [
        ReviewInfo(author="bo", name="Bo", teams=["a"], state="QUEUED", is_approval=yes, request=REQUEST)
        for yes in (True, False)
    ]
    assert fits(opa_path, Kind.APPROVAL, approval_input(run, FULL_STACK, reviews, reviews), tmp_path)


@pytest.mark.parametrize("session", [ANN, MACHINE])
def test_a_login_input_fits_its_schema(opa_path: Path, tmp_path: Path, session: SessionInfo) -> None:
    assert fits(opa_path, Kind.LOGIN, login_input(REQUEST, session), tmp_path)


def test_an_input_with_a_field_too_many_does_not_fit(opa_path: Path, tmp_path: Path) -> None:
    document = {**access_input(REQUEST, ANN, STACK), "extra": 1}

    assert not fits(opa_path, Kind.ACCESS, document, tmp_path)
