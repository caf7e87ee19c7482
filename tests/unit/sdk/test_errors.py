"""The tree of errors covers what the API may answer."""

import pytest

from interlock import errors
from interlock.v1.errors_pb2 import ErrorReason


@pytest.mark.parametrize("reason", sorted(errors.InterlockError.by_reason))
def test_every_reason_of_the_tree_is_one_of_the_api(reason: str) -> None:
    assert f"ERROR_REASON_{reason}" in dict(ErrorReason.items())


def test_a_class_for_a_reason_keeps_the_code_of_its_parent() -> None:
    assert errors.TaskDenied.code is errors.PermissionDenied.code
    assert errors.StackLocked.code is errors.FailedPrecondition.code


def test_an_error_without_its_detail_reads_as_empty() -> None:
    assert errors.TaskDenied("denied").messages == ()
    assert errors.StackLocked("locked").owner.login == ""
