"""Control plane and runner agree on the names that a variable cannot have."""

import pytest

from control_plane import errors
from control_plane.stacks import environment_fields
from interlock.v1 import stack_pb2
from runner import script


@pytest.mark.parametrize(
    "name", [*sorted(environment_fields.SHELLS_OWN_NAMES), "__interlock_failed", "INTERLOCK_X"]
)
def test_a_name_that_the_runner_could_not_set_is_refused_when_it_is_stored(name: str) -> None:
    variable = stack_pb2.EnvironmentVariable(name=name, value="x")
    with pytest.raises(errors.InvalidField):
        environment_fields.check([variable], [])


def test_the_runner_takes_every_other_name() -> None:
    assert environment_fields.SHELLS_OWN_NAMES == script._TAKEN_NAMES
    environment_fields.check([stack_pb2.EnvironmentVariable(name="PATH", value="x")], [])
    assert script.is_variable_name("PATH")
