"""The API key behind a login, for those who ask what somebody else may do."""

from __future__ import annotations

from control_plane import clock, errors
from control_plane.identity import store
from control_plane.identity.api_key import ApiKey
from control_plane.storage.database import Database


async def key_of(db: Database, login: str) -> ApiKey:
    """The key in force with this login. Raises NotFound."""
    key = await db.read(lambda tx: store.find_login(tx, login))
    if key is None or not key.is_in_force(clock.now_us()):
        raise errors.NotFound("API key with the login", login)
    return key
