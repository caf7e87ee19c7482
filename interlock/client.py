"""The asynchronous client: one channel, one caller, a face per service."""

import os
from dataclasses import replace
from types import TracebackType
from typing import Self

from interlock import profiles
from interlock.audit import Audit
from interlock.channel import Tls, open_channel
from interlock.decisions import Decisions
from interlock.errors import Misconfigured
from interlock.identity import Identity
from interlock.limits import Limits
from interlock.policies import Policies
from interlock.pools import Pools
from interlock.profiles import Profile
from interlock.retry import Retry
from interlock.runs import Runs
from interlock.slots import Slots
from interlock.stacks import Stacks
from interlock.tokens import ExchangedTokens, FixedToken, Tokens
from interlock.transport import Transport
from interlock.v1.identity_service_pb2_grpc import IdentityServiceStub


class Client:
    """What `connect` returns. To be used on one event loop; any number of its tasks may call at once."""

    def __init__(self, profile: Profile, *, tls: Tls | None, retry: Retry) -> None:
        if profile.token and profile.api_key:
            raise Misconfigured("give a token or an API key, not both")
        if not (profile.token or profile.api_key):
            raise Misconfigured(
                f"no credential for {profile.address}: give a token or an API key (INTERLOCK_API_KEY), "
                "or store one with `interlock login`"
            )
        self.address = profile.address
        self._channel = open_channel(profile.address, tls=tls, insecure=profile.insecure)
        tokens: Tokens = (
            FixedToken(profile.token)
            if profile.token
            else ExchangedTokens(profile.api_key, IdentityServiceStub(self._channel))
        )
        transport = Transport(tokens, retry, self._channel)
        self.runs = Runs(transport, self._channel)
        self.slots = Slots(transport, self._channel)
        self.stacks = Stacks(transport, self._channel)
        self.policies = Policies(transport, self._channel)
        self.decisions = Decisions(transport, self._channel)
        self.identity = Identity(transport, self._channel)
        self.pools = Pools(transport, self._channel)
        self.limits = Limits(transport, self._channel)
        self.audit = Audit(transport, self._channel)

    async def close(self) -> None:
        """Ends what is still under way."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def connect(
    address: str = "",
    *,
    profile: str = "",
    token: str = "",
    api_key: str = "",
    tls: Tls | None = None,
    insecure: bool = False,
    retry: Retry | None = None,
) -> Client:
    """A client of the control plane at `address`, HOST:PORT or unix:///PATH. The first call connects.

    Several addresses, with commas between them, are of replicas that answer alike: where one is away, the next is
    asked, and a run that is being followed goes on there at its offset.

    An `api_key` (ID.SECRET) is exchanged for short-lived tokens, which are renewed by themselves; a `token`
    is used as it is. What is not given comes from the environment (INTERLOCK_ADDRESS, INTERLOCK_TOKEN,
    INTERLOCK_API_KEY, INTERLOCK_PROFILE) or from the profile that `interlock login` or `interlock dev` stored.
    Connections to other machines use TLS; `insecure=True` sends credentials to them in plaintext. `retry` is
    the patience with a server that does not answer.

    Raises Misconfigured where no address or credential is to be had.
    """
    if address and (token or api_key) and not profile:
        found = Profile(address=address)
    else:
        found = profiles.resolve(os.environ, name=profile, address=address)
    if token or api_key:
        found = replace(found, token=token, api_key=api_key)
    found = replace(found, insecure=insecure or found.insecure)
    return Client(found, tls=tls or found.tls(), retry=retry or Retry())
