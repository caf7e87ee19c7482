"""Who may have an API key, what it is exchanged for, and when it ends."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import sqlalchemy as sa
import structlog
from google.protobuf.message import Message

from control_plane import clock, errors, ids
from control_plane.audit import events
from control_plane.identity import principal as principals
from control_plane.identity import store
from control_plane.identity.api_key import ApiKey
from control_plane.identity.authenticator import Authenticator
from control_plane.identity.credentials import Credential
from control_plane.identity.errors import BadCredentials
from control_plane.identity.failure_limit import FailureLimit
from control_plane.identity.login import Login, LoginGuard, NoPolicies
from control_plane.identity.principal import Principal
from control_plane.identity.tokens import Tokens
from control_plane.replicas.bus import Bus, Nobody
from control_plane.replicas.notes import Kind
from control_plane.storage import requests
from control_plane.storage.database import Database

log = structlog.get_logger(__name__)

# Names that the audit log uses for callers without a key.
RESERVED_LOGINS: Final = frozenset({principals.SYSTEM.login, principals.anonymous("").login})
_CREATE: Final = "CreateApiKey"
_LOGIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_KEY_ID: Final = re.compile(r"key_[a-z0-9]{26}")
_MINUTE_US: Final = 60_000_000
# The last second that a google.protobuf.Timestamp may hold, 9999-12-31T23:59:59Z.
_LAST_TIME_US: Final = 253_402_300_799_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a caller chooses of a new key."""

    name: str
    login: str = ""
    teams: tuple[str, ...] = ()
    admin: bool = False
    machine: bool = False
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Exchanged:
    key: ApiKey
    access_token: str = field(repr=False)
    expires_at: int
    # Whom calls with the token come from.
    principal: Principal


class Keys:
    """API keys: exchanged, made, listed, revoked."""

    def __init__(
        self,
        db: Database,
        *,
        tokens: Tokens,
        authenticator: Authenticator,
        failures: FailureLimit,
        logins: LoginGuard | None = None,
        bus: Bus | None = None,
        now_us: Callable[[], int] = clock.now_us,
    ) -> None:
        self._db = db
        self._bus = bus or Nobody()
        self._tokens = tokens
        self._authenticator = authenticator
        self._failures = failures
        self._logins = logins or NoPolicies()
        self._now_us = now_us

    async def exchange(self, caller: Principal, credential: Credential) -> Exchanged:
        """An access token for a key that is in force.

        Raises:
            BadCredentials: it is not, or the secret is wrong; audited as key.rejected.
            TooManyFailures: this peer was wrong too often; not audited any more.
            LoginDenied: login policies refuse it.
            EvaluationFailed, OpaUnavailable: they could not be asked, so the answer is no.
        """
        found = await self._db.read(lambda connection: store.find_with_hash(connection, credential.id))
        now = self._now_us()
        cause = _cause_of_refusal(found, credential, now)
        if found is None or cause:
            self._failures.count(caller.remote_ip)
            await self._db.write(lambda connection: _audit_refusal(connection, caller, credential.id, cause))
            raise BadCredentials("API key")
        key = found[0]
        if key.last_used_at is None or key.last_used_at // _MINUTE_US < now // _MINUTE_US:
            await self._note_use(key, now)
        login = await self._logins.judge(key, caller.remote_ip)
        session_id = "" if login is None else await self._open_session(key, login, now)
        token, claims = self._tokens.issue(
            key.id, not_after=key.expires_at, session_id=session_id, creator_ip=caller.remote_ip
        )
        principal = key.principal(caller.remote_ip)
        if login is not None:
            principal = replace(principal, teams=login.teams, admin=login.admin)
        return Exchanged(key, token, claims.expires_at, principal)

    async def create(
        self, caller: Principal, draft: Draft, *, request_id: str, content: Message
    ) -> tuple[ApiKey, Credential | None]:
        """The new key with its secret; the key alone where `request_id` has made it before.

        Raises:
            NotAllowed: the caller is no admin.
            InvalidField: no login, a reserved one, or an end that is over.
            AlreadyExists: another key in force has the login.
        """
        caller.require_admin("create API keys")
        now = self._now_us()
        _check_end(draft.expires_at, now)
        key = _key_of(draft, now)
        credential = Credential.new(key.id)

        def unit(connection: sa.Connection) -> tuple[ApiKey, Credential | None]:
            earlier = requests.find(connection, caller.id, _CREATE, request_id, content)
            if earlier is not None:
                return _existing(connection, earlier), None
            _free_login(connection, key.login, now)
            store.insert(connection, key, credential.hashed())
            requests.remember(connection, caller.id, _CREATE, request_id, content, key.id)
            _audit_creation(connection, caller, key)
            return key, credential

        return await self._db.write(unit)

    async def page(self, caller: Principal, *, before: str, limit: int, with_ended: bool) -> list[ApiKey]:
        """Newest first, from the one after id `before` on."""
        caller.require_admin("list API keys")
        now = self._now_us()
        return await self._db.read(
            lambda connection: store.page(
                connection, before=before, limit=limit, now_us=now, with_ended=with_ended
            )
        )

    async def revoke(self, caller: Principal, key_id: str) -> ApiKey:
        """Ends a key and all its tokens, for good. Repeating it is harmless.

        Raises:
            NotAllowed: the caller is no admin.
            NotFound: there was never such a key.
            InUse: nobody could administer this installation afterwards.
        """
        caller.require_admin("revoke API keys")
        now = self._now_us()

        def unit(connection: sa.Connection) -> ApiKey:
            key = _existing(connection, key_id)
            if key.revoked_at is not None:
                return key
            if store.admin_ids(connection, now) == {key.id}:
                raise errors.InUse(
                    f"API key {key.id} is the last admin key in force; create another admin key first"
                )
            store.revoke(connection, key.id, now)
            events.record(
                connection, caller, "api_key.revoked", "api_key", key.id, details={"login": key.login}
            )
            return _existing(connection, key_id)

        revoked = await self._db.write(unit)
        self._authenticator.forget(key_id)
        self._bus.tell(Kind.KEY, key_id)
        return revoked

    async def _open_session(self, key: ApiKey, login: Login, now_us: int) -> str:
        expires_at = now_us + self._tokens.lifetime_us

        def unit(connection: sa.Connection) -> str:
            session_id = store.insert_session(connection, key.id, login, now_us=now_us, expires_at=expires_at)
            events.record(
                connection, key.principal(""), "session.opened", "session", session_id,
                details={"decision_id": login.decision_id, "admin": login.admin, "teams": list(login.teams)},
            )  # fmt: skip
            return session_id

        return await self._db.write(unit)

    async def _note_use(self, key: ApiKey, now_us: int) -> None:
        try:
            await self._db.write(lambda connection: store.note_use(connection, key.id, now_us))
        except errors.DiskFull as error:
            # Who cannot write can still read, and must be able to come in for it.
            log.warning("api_key.use_not_noted", key_id=key.id, cause=error.message)


async def first_admin_key(db: Database) -> tuple[ApiKey, Credential] | None:
    """Makes an admin key, to be shown once, where there has never been a key; else None."""
    key = _key_of(Draft(name="First admin", login="admin", admin=True), clock.now_us())
    credential = Credential.new(key.id)

    def unit(connection: sa.Connection) -> bool:
        if store.exists_any(connection):
            return False
        store.insert(connection, key, credential.hashed())
        _audit_creation(connection, principals.SYSTEM, key)
        return True

    return (key, credential) if await db.write(unit) else None


def _key_of(draft: Draft, now_us: int) -> ApiKey:
    return ApiKey(
        id=ids.new_id("key"),
        name=draft.name,
        login=_login_of(draft),
        teams=tuple(sorted(set(draft.teams))),
        admin=draft.admin,
        machine=draft.machine,
        created_at=now_us,
        expires_at=draft.expires_at,
    )


def _login_of(draft: Draft) -> str:
    """The login that was asked for, else the name itself where it can be one, else what is left of it."""
    login = draft.login or (draft.name if _LOGIN.fullmatch(draft.name) else ids.slug(draft.name))
    if not login:
        raise errors.InvalidField("api_key.login", "cannot be derived from this name; give one")
    if login.lower() in RESERVED_LOGINS:
        raise errors.InvalidField("api_key.login", f"{login!r} is reserved; choose another")
    return login


def _check_end(expires_at: int | None, now_us: int) -> None:
    if expires_at is None:
        return
    if expires_at <= now_us:
        raise errors.InvalidField("api_key.expire_time", "is over already")
    if expires_at > _LAST_TIME_US:
        raise errors.InvalidField("api_key.expire_time", "is after the year 9999; leave it unset for never")


def _free_login(connection: sa.Connection, login: str, now_us: int) -> None:
    """Raises AlreadyExists where a key in force has the login; one that has expired gives it up."""
    holder = store.find_login(connection, login)
    if holder is None:
        return
    if not holder.has_expired(now_us):
        problem = f"key {holder.id} in force has the login {login!r}; choose another, or revoke it"
        raise errors.AlreadyExists("api_key", login, problem)
    store.revoke(connection, holder.id, now_us)
    events.record(
        connection,
        principals.SYSTEM,
        "api_key.revoked",
        "api_key",
        holder.id,
        details={"login": login, "cause": "expired, and its login is given to another key"},
    )


def _existing(connection: sa.Connection, key_id: str) -> ApiKey:
    key = store.find(connection, key_id)
    if key is None:
        raise errors.NotFound("api_key", key_id)
    return key


def _cause_of_refusal(found: tuple[ApiKey, bytes] | None, credential: Credential, now_us: int) -> str:
    """For the audit log; empty where the credential is good."""
    if found is None:
        return "unknown key"
    key, secret_hash = found
    if not credential.matches(secret_hash):
        return "wrong secret"
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.has_expired(now_us) else ""


def _audit_creation(connection: sa.Connection, caller: Principal, key: ApiKey) -> None:
    events.record(
        connection,
        caller,
        "api_key.created",
        "api_key",
        key.id,
        details={
            "name": key.name,
            "login": key.login,
            "teams": list(key.teams),
            "admin": key.admin,
            "machine": key.machine,
            "expires_at_us": key.expires_at,
        },
    )


def _audit_refusal(connection: sa.Connection, caller: Principal, key_id: str, cause: str) -> None:
    # Somebody may have sent the secret as the id: what is no id is not written down.
    named = key_id if _KEY_ID.fullmatch(key_id) else ""
    events.record(connection, caller, "key.rejected", "api_key", named, details={"cause": cause})
