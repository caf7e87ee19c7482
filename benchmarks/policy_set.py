"""A thousand policies, ten of which apply to the stacks that are labelled for them, of the examples that ship."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Final

from interlock.client import Client
from tests.house import House

TOTAL: Final = 1000
ATTACHED: Final = 10
# What the examples want to see so that `caller.COMMAND` of a key of this team is allowed.
STACK_LABELS: Final = ["bench", "team:platform", "machine-tasks"]
TEAMS: Final = ["platform"]

# They have something to do for every command; others only on stacks with labels of their own.
_NAMES = (
    "access/team_label",
    "task/business_hours",
    "task/deny_destroy",
    "task/no_machine_users",
    "task/no_secrets_on_the_command_line",
    "task/read_only_commands",
    "task/two_teams",
)
_EXAMPLES = Path(__file__).parent.parent / "policies" / "examples"
_COPY = """
    INSERT INTO policies (id, name, description, kind, body, module, rego_version, labels,
                          revision, version, created_at, updated_at)
    SELECT id || '-copy-' || :copy, name, description, kind, body, module, rego_version, '["autoattach:elsewhere"]',
           revision, version, created_at, updated_at
    FROM policies WHERE id NOT LIKE '%-copy-%'
"""


async def attach(client: Client, *, kind: str = "") -> None:
    """Seven of the examples, or those of one kind, and the first of them again until there are ten."""
    names = [name for name in _NAMES if name.startswith(kind)]
    for number in range(ATTACHED):
        file = _EXAMPLES / f"{names[number % len(names)]}.rego"
        await client.policies.create(
            f"{file.stem}-{number}",
            file.read_text(),
            kind=file.parent.name,
            policy_id=f"{file.stem.replace('_', '-')}-{number}",
            labels=["autoattach:bench"],
        )


async def load(site: House, *, kind: str = "") -> None:
    """Attaches ten and fills up to a thousand; the server is started again."""
    async with site.connect() as admin:
        await attach(admin, kind=kind)
    site.server.stop()
    fill_up(site.data_dir / "interlock.db")
    await site.start_server()


def fill_up(database: Path) -> None:
    """Copies them, attached elsewhere, until there are a thousand. The server is stopped meanwhile: it loads one bundle
    at its start in a second, where a thousand uploads would be compiled one by one.
    """
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for copy in range(1, TOTAL // ATTACHED):
            connection.execute(_COPY, {"copy": copy})
