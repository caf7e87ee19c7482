"""What is said of holds, by those who have them, by admins and by time, as the real thing takes it and the model does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa

from control_plane.identity.principal import Principal
from control_plane.runs import holds, store
from interlock.v1 import slot_service_pb2 as rpc
from tests.integration.runs.conftest import ADA
from tests.integration.runs.model.expected import Expected

ROOT: Final = Principal(id="key_0000000000000000000000root", login="root", name="Root", admin=True)
WORDS: Final = ("offer", "renew", "release", "take away", "take away by force", "lease over")


def said(
    what: str, run_id: str, token: int
) -> tuple[Callable[[sa.Connection], Any], Callable[[Expected], object]]:
    """The transaction, and what is expected of it. `token` is that of the run's stack."""
    match what:
        case "offer":
            return lambda tx: holds.offer(tx, run_id), lambda model: model.offered(run_id)
        case "renew":
            renewal = rpc.RenewSlotRequest(run_id=run_id, fencing_token=token)
            return lambda tx: holds.renew(tx, ADA, renewal), lambda model: model.renewed(run_id)
        case "release":
            request = rpc.ReleaseSlotRequest(run_id=run_id)
            return lambda tx: holds.release(tx, ADA, request), lambda model: model.released(run_id)
        case "lease over":
            return lambda tx: _lease_over(tx, run_id), lambda model: model.hold_lease_over(run_id)
    by_force = what == "take away by force"
    taking = rpc.ReleaseSlotRequest(run_id=run_id, reason="it is gone", force=by_force)
    return (
        lambda tx: holds.release(tx, ROOT, taking),
        lambda model: model.taken_away(run_id, by_force=by_force),
    )


def _lease_over(tx: sa.Connection, run_id: str) -> None:
    run = store.find_to_move(tx, run_id)
    assert run is not None
    if run.lease_until is not None:
        store.update(tx, run_id, lease_until=1)
    holds.expire(tx, run_id, 0)
