"""Invariant 7: the log can only grow. The database itself refuses everything else."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from tests.integration.audit.house import House

_ON_BOTH = [
    "UPDATE audit_events SET caller_login = 'eve'",
    "DELETE FROM audit_events",
    "UPDATE audit_seals SET hash = ''",
    "DELETE FROM audit_seals",
]


@pytest.mark.parametrize(
    ("database_url", "statement"),
    [
        *(("sqlite", statement) for statement in _ON_BOTH),
        *(("postgresql", statement) for statement in _ON_BOTH),
        ("postgresql", "TRUNCATE audit_events"),
        ("postgresql", "TRUNCATE audit_seals"),
        (
            "postgresql",
            "INSERT INTO audit_seals SELECT * FROM audit_seals ON CONFLICT (sequence) DO UPDATE SET hash = ''",
        ),
        ("sqlite", "REPLACE INTO audit_events SELECT * FROM audit_events LIMIT 1"),
        ("sqlite", "REPLACE INTO audit_seals SELECT * FROM audit_seals LIMIT 1"),
        (
            "sqlite",
            "REPLACE INTO audit_seals SELECT 99, event_id, previous_hash, hash FROM audit_seals LIMIT 1",
        ),
    ],
    indirect=["database_url"],
)
async def test_the_database_refuses_to_change_the_log(house: House, statement: str) -> None:
    """Invariant 7: the log can only grow."""
    await house.sealed(2)

    with pytest.raises(sa.exc.IntegrityError, match="only grows"):
        await house.execute(statement)

    verification = await house.verify()
    assert (verification.fault, verification.verified) == (None, 2)
