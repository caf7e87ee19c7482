"""An API key as the rest of the program sees it: never with its secret."""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.identity.principal import Principal


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Times are Unix microseconds. Nothing but `revoked_at` and `last_used_at` ever changes."""

    id: str
    name: str
    login: str
    teams: tuple[str, ...]
    admin: bool
    machine: bool
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None

    def is_in_force(self, now_us: int) -> bool:
        return self.revoked_at is None and not self.has_expired(now_us)

    def has_expired(self, now_us: int) -> bool:
        return self.expires_at is not None and self.expires_at <= now_us

    def principal(self, remote_ip: str) -> Principal:
        return Principal(
            id=self.id,
            login=self.login,
            name=self.name,
            teams=self.teams,
            admin=self.admin,
            machine=self.machine,
            remote_ip=remote_ip,
        )
