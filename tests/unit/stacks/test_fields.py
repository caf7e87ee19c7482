"""What a stack's fields must be."""

from __future__ import annotations

from typing import Any

import protovalidate
import pytest

from control_plane import errors
from control_plane.stacks import definition, fields
from control_plane.stacks.git_url import GitRules
from interlock.v1 import stack_pb2
from interlock.v1.stack_service_pb2 import UpdateStackRequest


def good(**fields_: Any) -> stack_pb2.Stack:
    stack = stack_pb2.Stack(name="Network", image="busybox", tool=stack_pb2.TOOL_TERRAFORM)
    stack.MergeFrom(stack_pb2.Stack(**fields_))
    return stack


def violations(stack: stack_pb2.Stack, *paths: str) -> list[str]:
    with pytest.raises(errors.InvalidField) as caught:
        fields.check(stack, paths or fields.CHANGEABLE, GitRules())
    return [field for field, _ in caught.value.violations]


def test_a_stack_without_a_source_is_accepted() -> None:
    fields.check(good(), fields.CHANGEABLE, GitRules())


def test_everything_that_is_missing_is_named_at_once() -> None:
    assert violations(stack_pb2.Stack()) == ["stack.name", "stack.tool", "stack.image"]


def test_only_the_fields_of_the_mask_are_looked_at() -> None:
    fields.check(stack_pb2.Stack(labels=["prod"]), ["labels"], GitRules())


@pytest.mark.parametrize("root", ["/etc", "..", "a/../../b", "-rf"])
def test_a_project_root_that_leaves_the_source_is_refused(root: str) -> None:
    assert violations(good(source=stack_pb2.Source(project_root=root))) == ["stack.source.project_root"]


def test_a_project_root_is_kept_in_its_shortest_form() -> None:
    assert fields.normal_root("./infra//prod/") == "infra/prod"
    assert fields.normal_root(".") == ""


def test_a_bad_git_source_is_refused_by_address_and_ref() -> None:
    git = stack_pb2.GitSource(repository_url="ext::sh", ref="-x")
    expected = ["stack.source.git.ref", "stack.source.git.repository_url"]
    assert violations(good(source=stack_pb2.Source(git=git))) == expected


def test_custom_init_needs_the_custom_tool() -> None:
    assert violations(good(custom_init=["make"])) == ["stack.custom_init"]
    fields.check(good(custom_init=["make"], tool=stack_pb2.TOOL_CUSTOM), fields.CHANGEABLE, GitRules())


@pytest.mark.parametrize("paths", [[], ["id"], ["etag"], ["source.git.ref"], ["*"], ["name", "nothing"]])
def test_a_mask_that_is_empty_or_names_what_cannot_be_changed_is_refused(paths: list[str]) -> None:
    with pytest.raises(errors.InvalidField, match="update_mask"):
        fields.check_mask(paths)


def test_an_id_is_made_from_the_name_where_none_is_chosen() -> None:
    assert definition.id_of(stack_pb2.Stack(name="Prod network/EU")) == "prod-network-eu"
    assert definition.id_of(stack_pb2.Stack(name="Prod", id="p1")) == "p1"


def test_a_name_without_letters_for_an_id_needs_a_chosen_id() -> None:
    with pytest.raises(errors.InvalidField, match=r"stack\.id"):
        definition.id_of(stack_pb2.Stack(name="ネットワーク"))


def test_an_update_may_leave_out_what_it_does_not_change() -> None:
    request = UpdateStackRequest(stack=stack_pb2.Stack(id="network", labels=["prod"]))
    request.update_mask.paths.append("labels")
    assert protovalidate.collect_violations(request) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "../etc"), ("name", "-rf"), ("id", "../x"), ("id", "-x"), ("id", "X"), ("image", "-v/:/host"),
     ("image", "a b")],
)  # fmt: skip
def test_a_name_id_or_image_that_is_a_path_or_an_option_is_refused(field: str, value: str) -> None:
    [violation] = protovalidate.collect_violations(good(**{field: value}))
    assert violation.proto.field is not None
    assert violation.proto.field.elements[0].field_name == field


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A=B", "A B", "$(id)", "ä"])
def test_a_variable_name_that_is_no_shell_name_is_refused(name: str) -> None:
    assert protovalidate.collect_violations(stack_pb2.EnvironmentVariable(name=name))
