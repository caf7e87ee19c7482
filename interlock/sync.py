"""The SDK for programs without an event loop: `with interlock.sync.connect(…) as client`.

Each method here is the asynchronous one of the same name, run to its end on one background thread; types and
documentation are taken from it. Clients may be used from any thread.
"""

import asyncio
import functools
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar

from interlock import audit, client, decisions, identity, limits, policies, pools, runs, slots, stacks

P = ParamSpec("P")
R = TypeVar("R")

_END: Final = object()


class Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="interlock.sync", daemon=True)
        self._thread.start()

    def run(self, awaitable: Awaitable[R]) -> R:
        """Waits for the result. Whatever interrupts the waiting cancels what was awaited."""
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "interlock.sync was called from its own event loop; use the asynchronous client"
            )
        future = asyncio.run_coroutine_threadsafe(_awaited(awaitable), self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def iterate(self, items: AsyncIterator[R]) -> Generator[R]:
        try:
            while (item := self.run(anext(items, _END))) is not _END:
                yield item  # type: ignore[misc]  # all but _END is an R
        finally:
            if isinstance(items, AsyncGenerator):
                self.run(items.aclose())


@functools.cache
def the_loop() -> Loop:
    """One for the process: gRPC has one poller, which several loops would wake in vain."""
    return Loop()


class Face:
    """One service's methods on top of its asynchronous ones."""

    def __init__(self, inner: object) -> None:
        self.inner = inner


class Blocking(Generic[P, R]):
    """A method that waits for the result of an asynchronous one."""

    def __init__(self, method: Callable[Concatenate[Any, P], Awaitable[R]]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, face: Face, owner: type[Face]) -> Callable[P, R]:
        @functools.wraps(self._method)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return the_loop().run(self._method(face.inner, *args, **kwargs))

        return call


class Iterating(Generic[P, R]):
    """A method that yields what an asynchronous one yields."""

    def __init__(self, method: Callable[Concatenate[Any, P], AsyncIterator[R]]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, face: Face, owner: type[Face]) -> Callable[P, Generator[R]]:
        @functools.wraps(self._method)
        def call(*args: P.args, **kwargs: P.kwargs) -> Generator[R]:
            return the_loop().iterate(self._method(face.inner, *args, **kwargs))

        return call


class Entered(Generic[R]):
    """An asynchronous context manager, entered and left on the loop."""

    def __init__(self, inner: AbstractAsyncContextManager[R]) -> None:
        self._inner = inner

    def __enter__(self) -> R:
        return the_loop().run(self._inner.__aenter__())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        the_loop().run(self._inner.__aexit__(kind, error, trace))


class Entering(Generic[P, R]):
    """A method whose result is entered: `with` in place of `async with`. It calls back on the loop's thread."""

    def __init__(self, method: Callable[Concatenate[Any, P], AbstractAsyncContextManager[R]]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, face: Face, owner: type[Face]) -> Callable[P, Entered[R]]:
        @functools.wraps(self._method)
        def call(*args: P.args, **kwargs: P.kwargs) -> Entered[R]:
            return Entered(self._method(face.inner, *args, **kwargs))

        return call


class Runs(Face):
    create_task = Blocking(runs.Runs.create_task)
    explain_task = Blocking(runs.Runs.explain_task)
    get = Blocking(runs.Runs.get)
    list = Iterating(runs.Runs.list)
    follow = Iterating(runs.Runs.follow)
    wait = Blocking(runs.Runs.wait)
    stop = Blocking(runs.Runs.stop)
    start = Blocking(runs.Runs.start)
    confirm = Blocking(runs.Runs.confirm)
    plan = Blocking(runs.Runs.plan)
    abandon = Blocking(runs.Runs.abandon)
    late_output = Iterating(runs.Runs.late_output)
    discard = Blocking(runs.Runs.discard)
    approve = Blocking(runs.Runs.approve)
    reject = Blocking(runs.Runs.reject)


class Slots(Face):
    hold = Entering(slots.Slots.hold)
    acquire = Iterating(slots.Slots.acquire)
    renew = Blocking(slots.Slots.renew)
    release = Blocking(slots.Slots.release)


class Stacks(Face):
    create = Blocking(stacks.Stacks.create)
    get = Blocking(stacks.Stacks.get)
    list = Iterating(stacks.Stacks.list)
    update = Blocking(stacks.Stacks.update)
    delete = Blocking(stacks.Stacks.delete)
    lock = Blocking(stacks.Stacks.lock)
    unlock = Blocking(stacks.Stacks.unlock)
    get_environment = Blocking(stacks.Stacks.get_environment)
    set_environment = Blocking(stacks.Stacks.set_environment)
    unset_environment = Blocking(stacks.Stacks.unset_environment)
    upload = Blocking(stacks.Stacks.upload)
    push = Blocking(stacks.Stacks.push)


class Policies(Face):
    create = Blocking(policies.Policies.create)
    get = Blocking(policies.Policies.get)
    list = Iterating(policies.Policies.list)
    update = Blocking(policies.Policies.update)
    delete = Blocking(policies.Policies.delete)
    attach = Blocking(policies.Policies.attach)
    detach = Blocking(policies.Policies.detach)
    attached = Blocking(policies.Policies.attached)
    stacks = Iterating(policies.Policies.stacks)
    history = Iterating(policies.Policies.history)
    revision = Blocking(policies.Policies.revision)
    rollback = Blocking(policies.Policies.rollback)
    release = Blocking(policies.Policies.release)
    shadow_report = Blocking(policies.Policies.shadow_report)
    simulate = Blocking(policies.Policies.simulate)
    backtest = Iterating(policies.Policies.backtest)


class Decisions(Face):
    get = Blocking(decisions.Decisions.get)
    list = Iterating(decisions.Decisions.list)


class Identity(Face):
    get_caller = Blocking(identity.Identity.get_caller)
    create_key = Blocking(identity.Identity.create_key)
    list_keys = Iterating(identity.Identity.list_keys)
    revoke_key = Blocking(identity.Identity.revoke_key)


class Limits(Face):
    set = Blocking(limits.Limits.set)
    get = Blocking(limits.Limits.get)
    list = Iterating(limits.Limits.list)
    delete = Blocking(limits.Limits.delete)


class Pools(Face):
    create = Blocking(pools.Pools.create)
    get = Blocking(pools.Pools.get)
    list = Iterating(pools.Pools.list)
    update = Blocking(pools.Pools.update)
    delete = Blocking(pools.Pools.delete)
    create_token = Blocking(pools.Pools.create_token)
    list_tokens = Iterating(pools.Pools.list_tokens)
    revoke_token = Blocking(pools.Pools.revoke_token)
    list_runners = Iterating(pools.Pools.list_runners)


class Audit(Face):
    list = Iterating(audit.Audit.list)
    verify = Blocking(audit.Audit.verify)


class Client:
    """What `connect` returns."""

    def __init__(self, inner: client.Client) -> None:
        self._inner = inner
        self.address = inner.address
        self.runs = Runs(inner.runs)
        self.slots = Slots(inner.slots)
        self.stacks = Stacks(inner.stacks)
        self.policies = Policies(inner.policies)
        self.decisions = Decisions(inner.decisions)
        self.identity = Identity(inner.identity)
        self.pools = Pools(inner.pools)
        self.limits = Limits(inner.limits)
        self.audit = Audit(inner.audit)

    def close(self) -> None:
        """Ends what is still under way."""
        the_loop().run(self._inner.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _blocking_connect(connect: Callable[P, client.Client]) -> Callable[P, Client]:
    @functools.wraps(connect)
    def call(*args: P.args, **kwargs: P.kwargs) -> Client:
        async def on_the_loop() -> client.Client:  # where the channel belongs
            return connect(*args, **kwargs)

        return Client(the_loop().run(on_the_loop()))

    return call


connect = _blocking_connect(client.connect)


async def _awaited(awaitable: Awaitable[R]) -> R:
    return await awaitable
