"""What login policies make of a credential, and who asks them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from control_plane.identity.api_key import ApiKey


@dataclass(frozen=True, slots=True)
class Login:
    """Teams and rights of a session, from the policies and the key, and the decision that says so."""

    teams: tuple[str, ...]
    admin: bool
    decision_id: str


class LoginGuard(Protocol):
    """Asks the login policies. Fails closed: where they cannot be asked, the answer is an error."""

    async def judge(self, key: ApiKey, remote_ip: str) -> Login | None:
        """None where policies have no say: then the session is as the key is."""


class NoPolicies:
    """Where there are no policies to ask: every key is what it is."""

    async def judge(self, key: ApiKey, remote_ip: str) -> Login | None:  # noqa: ARG002
        return None
