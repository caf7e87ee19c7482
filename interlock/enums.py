"""Enum values by their short names: "terraform" for TOOL_TERRAFORM, and back."""

import re
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.descriptor import EnumDescriptor

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

V = TypeVar("V", bound=int)


def value(enum: "_EnumTypeWrapper[V]", given: V | str) -> V:
    """The value, given itself or its short name in any case. ValueError lists the names that exist."""
    if not isinstance(given, str):
        return given
    name = _prefix(enum.DESCRIPTOR) + given.upper().replace("-", "_")
    try:
        return enum.Value(name)
    except ValueError:
        choices = ", ".join(names(enum))
        raise ValueError(f"{given!r} is none of {choices}") from None


def name(enum: "_EnumTypeWrapper[V]", number: V) -> str:
    """The short name in lower case; "unspecified" for 0, the bare number for one of a newer server."""
    try:
        return enum.Name(number).removeprefix(_prefix(enum.DESCRIPTOR)).lower()
    except ValueError:
        return str(int(number))


def names(enum: "_EnumTypeWrapper[V]") -> list[str]:
    """All short names but "unspecified", in the order of the proto file."""
    prefix = _prefix(enum.DESCRIPTOR)
    return [each.removeprefix(prefix).lower() for each, number in enum.items() if number != 0]


def _prefix(descriptor: EnumDescriptor) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", descriptor.name).upper() + "_"
