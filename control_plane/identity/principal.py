"""Who calls: what the interceptor makes of a bearer token, and what rules, audit and policies see."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from control_plane import errors
from interlock.v1 import caller_pb2


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller as it is during one call."""

    id: str
    login: str
    name: str
    teams: tuple[str, ...] = ()
    admin: bool = False
    machine: bool = False
    # The peer's address as the server saw it; "" for SYSTEM and unix sockets.
    remote_ip: str = ""
    # The address from which its access token was asked for; "" where that is not known. Not a part of who it is.
    creator_ip: str = field(default="", compare=False)

    def to_caller(self) -> caller_pb2.Caller:
        return caller_pb2.Caller(
            id=self.id,
            login=self.login,
            name=self.name,
            teams=sorted(self.teams),
            admin=self.admin,
            machine=self.machine,
        )

    def require_admin(self, action: str) -> None:
        """Raises NotAllowed for anybody but an admin. `action` completes "only an admin may …"."""
        if not self.admin:
            raise errors.NotAllowed(f"only an admin may {action}; {self.login} is none")


SYSTEM = Principal(id="system", login="system", name="Interlock")


def anonymous(remote_ip: str) -> Principal:
    """Whoever has not said yet who they are: the caller of an exchange, or of a runner's hello."""
    return Principal(id="anonymous", login="anonymous", name="Unknown caller", remote_ip=remote_ip)


# Set by the authentication interceptor for the time of one call.
current: ContextVar[Principal] = ContextVar("principal")
