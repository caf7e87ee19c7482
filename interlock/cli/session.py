"""From a command's context to a client: which control plane, as whom, and with how much patience."""

import logging
from dataclasses import dataclass

import typer

import interlock
from interlock import sync
from interlock.cli import show

# A person waits: long enough for a restart of the control plane (5 s), not for a coffee.
PATIENCE = interlock.Retry(give_up_after_s=8.0)


@dataclass(frozen=True)
class Session:
    """The options before the noun."""

    profile_name: str = ""
    address: str = ""

    def connect(self, *, retry: interlock.Retry = PATIENCE) -> sync.Client:
        """For commands that ask and print."""
        return sync.connect(self.address, profile=self.profile_name, retry=retry)

    def connect_async(self) -> interlock.Client:
        """For those that follow."""
        return interlock.connect(self.address, profile=self.profile_name, retry=PATIENCE)


def session(context: typer.Context) -> Session:
    found = context.find_object(Session)
    return found if found is not None else Session()


def connect(context: typer.Context) -> sync.Client:
    return session(context).connect()


class OnceEach(logging.Handler):
    """Shows each warning of the SDK once: an outage is one line, however often it is tried again."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg not in self._shown:
            self._shown.add(record.msg)
            show.note(f"interlock: {record.getMessage()}")
