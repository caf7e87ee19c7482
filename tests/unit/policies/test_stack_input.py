"""What policies see of a stack's repository."""

import pytest

from control_plane.policies.stack_input import _repository_path


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("https://example.com/acme/network.git", "acme/network"),
        ("https://example.com/acme/deep/network", "acme/deep/network"),
        ("ssh://git@example.com:2222/acme/network.git/", "acme/network"),
        ("git@example.com:acme/network.git", "acme/network"),
        ("file:///srv/git/network.git", "srv/git/network"),
        ("", ""),
    ],
)
def test_the_repository_is_the_path_of_its_address(address: str, path: str) -> None:
    assert _repository_path(address) == path
