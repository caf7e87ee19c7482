"""What lets the audit log only grow: triggers that refuse changes, and one that queues events to be sealed.

Whoever owns the database can still drop them; what was changed then, the hash chain shows (`chain.py`).
"""

from __future__ import annotations

from typing import Final

# To be executed one by one, in order, once the tables are there.
SQLITE: Final = (
    """
    CREATE TRIGGER audit_events_refuse_update BEFORE UPDATE ON audit_events
    BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END
    """,
    """
    CREATE TRIGGER audit_events_refuse_delete BEFORE DELETE ON audit_events
    BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END
    """,
    # INSERT OR REPLACE deletes the old row without firing DELETE triggers (sqlite.org/lang_conflict.html).
    """
    CREATE TRIGGER audit_events_refuse_replace BEFORE INSERT ON audit_events
    WHEN EXISTS (SELECT 1 FROM audit_events WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END
    """,
    """
    CREATE TRIGGER audit_seals_refuse_update BEFORE UPDATE ON audit_seals
    BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END
    """,
    """
    CREATE TRIGGER audit_seals_refuse_delete BEFORE DELETE ON audit_seals
    BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END
    """,
    """
    CREATE TRIGGER audit_seals_refuse_replace BEFORE INSERT ON audit_seals
    WHEN EXISTS (SELECT 1 FROM audit_seals WHERE sequence = NEW.sequence OR event_id = NEW.event_id)
    BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END
    """,
    """
    CREATE TRIGGER audit_events_queue AFTER INSERT ON audit_events
    BEGIN INSERT INTO audit_unsealed (event_id) VALUES (NEW.id); END
    """,
)

POSTGRESQL: Final = (
    """
    CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'the audit log only grows' USING ERRCODE = 'integrity_constraint_violation'; END $$
    """,
    """
    CREATE FUNCTION audit_queue() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO audit_unsealed (event_id) VALUES (NEW.id); RETURN NULL; END $$
    """,
    """
    CREATE TRIGGER audit_events_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()
    """,
    """
    CREATE TRIGGER audit_seals_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_seals
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()
    """,
    """
    CREATE TRIGGER audit_events_queue AFTER INSERT ON audit_events
    FOR EACH ROW EXECUTE FUNCTION audit_queue()
    """,
)


def statements(dialect: str) -> tuple[str, ...]:
    """The DDL for `sqlite` or `postgresql`."""
    return SQLITE if dialect == "sqlite" else POSTGRESQL
