"""The secrets of a stack, for taking them out of what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from control_plane.keys import Sealer
from control_plane.stacks import environment
from control_plane.storage.database import Database

# As where a secret is stored: what is shorter would take out parts of ordinary words.
_SHORTEST: Final = 4
# A mounted file may have a hundred thousand lines, and each decision looks for each.
_MOST_LINES: Final = 200


class StackSecrets:
    """Reads them each time: no secret stays in memory."""

    def __init__(self, db: Database, sealer: Sealer) -> None:
        self._db = db
        self._sealer = sealer

    async def checksums(self, stack_id: str) -> Mapping[str, str]:
        """Each secret value, and the first 200 lines of one that has several, with the checksum that is shown instead."""
        return await self._db.read(lambda tx: self._checksums(tx, stack_id))

    def _checksums(self, tx: sa.Connection, stack_id: str) -> dict[str, str]:
        values: set[str] = set()
        for secret in environment.secret_values(tx, self._sealer, stack_id):
            text = secret.decode("utf-8", "replace")
            values |= {part for part in (text, *text.splitlines()[:_MOST_LINES]) if len(part) >= _SHORTEST}
        return {value: self._sealer.checksum(value.encode()) for value in values}
