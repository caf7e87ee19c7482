"""Errors as a person reads them: what, where, what to do."""

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest

from interlock import errors
from interlock.cli import failures
from interlock.types import Caller, PolicyFinding
from interlock.v1 import errors_pb2


def lines(
    kind: type[errors.InterlockError], message: str, detail: Message | None = None, reason: str = ""
) -> list[str]:
    packed = AnyMessage()
    if detail is not None:
        packed.Pack(detail)
    return list(failures.lines(kind(message, reason=reason, details=[packed])))


def test_a_denial_names_policy_message_and_decision() -> None:
    denied = errors_pb2.TaskDenied(messages=["no destroy"], policies=["deny destroy"], decision_id="dec_1")

    assert lines(errors.TaskDenied, "denied", denied) == [
        "interlock: denied by deny destroy: no destroy",
        "  decision dec_1; see it with: interlock decision show dec_1",
    ]


def test_a_lock_names_its_owner_and_what_to_ask_for() -> None:
    locked = errors_pb2.StackLocked(stack_id="network", owner=Caller(login="ada"), note="migration")

    told = lines(errors.StackLocked, "network is locked", locked)

    assert "by ada: migration" in told[1]
    assert told[2] == "  ask them to run: interlock stack unlock network"


def test_a_refused_policy_is_told_as_compilers_do() -> None:
    findings = [
        PolicyFinding(file="p.rego", line=3, column=7, message="var x is unsafe", hint="bind it first")
    ]

    assert lines(errors.PolicyRefused, "refused", errors_pb2.PolicyRefused(findings=findings)) == [
        "interlock: the policy's text is not acceptable; nothing was changed",
        "p.rego:3:7: var x is unsafe",
        "  bind it first",
    ]


def test_a_violation_is_named_unless_the_message_has_it() -> None:
    violations = [
        BadRequest.FieldViolation(field="command", description="must not be blank"),
        BadRequest.FieldViolation(field="stack_id", description="is too long"),
    ]

    assert lines(
        errors.InvalidArgument, "command: must not be blank", BadRequest(field_violations=violations)
    ) == [
        "interlock: command: must not be blank",
        "  stack_id: is too long",
    ]


def test_an_unreachable_control_plane_is_told_apart_from_one_that_says_unavailable() -> None:
    away = lines(errors.Unavailable, "connection refused")
    said = lines(errors.Unavailable, "OPA does not answer", reason="POLICY_ENGINE_UNAVAILABLE")

    assert away[0] == "interlock: the control plane does not answer: connection refused"
    assert "interlock dev" in away[1]
    assert said[0] == "interlock: OPA does not answer"
