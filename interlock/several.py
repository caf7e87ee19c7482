"""One channel to several servers that answer alike: calls go to one of them, and to the next when that is away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

Method = Any


class SeveralChannels(grpc.aio.Channel):
    """Calls go to the server at `position`. Whoever finds that one away calls `move_on`."""

    def __init__(self, channels: Sequence[grpc.aio.Channel]) -> None:
        self._channels = channels
        self.position = 0

    def move_on(self, position: int) -> None:
        """From the server at this position to the next one; nothing where somebody else has done so."""
        if position == self.position:
            self.position = (position + 1) % len(self._channels)

    def unary_unary(self, *args: Any, **options: Any) -> Method:
        return self._spread([channel.unary_unary(*args, **options) for channel in self._channels])

    def unary_stream(self, *args: Any, **options: Any) -> Method:
        return self._spread([channel.unary_stream(*args, **options) for channel in self._channels])

    def stream_unary(self, *args: Any, **options: Any) -> Method:
        return self._spread([channel.stream_unary(*args, **options) for channel in self._channels])

    def stream_stream(self, *args: Any, **options: Any) -> Method:
        return self._spread([channel.stream_stream(*args, **options) for channel in self._channels])

    def _spread(self, methods: Sequence[Callable[..., Any]]) -> Method:
        def call(*args: Any, **options: Any) -> Any:
            # Looked up at each call, not once.
            return methods[self.position](*args, **options)

        return call

    async def close(self, grace: float | None = None) -> None:
        for channel in self._channels:
            await channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # as gRPC has it
        return self._channels[self.position].get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channels[self.position].wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channels[self.position].channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
