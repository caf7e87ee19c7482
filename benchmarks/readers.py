"""Watchers that read the output of a run over and over, in a process of their own: on each line `COUNT SECONDS` of
standard input so many read for so long, and the answer is how many bytes of messages arrived in a second.

    python -m benchmarks.readers ADDRESS TOKEN RUN
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import grpc

from interlock.v1 import run_service_pb2 as rpc

_METHOD = "/interlock.v1.RunService/WatchRun"
_CONNECTIONS = 20
# Else gRPC lets channels to one address share a connection.
_OPTIONS = [("grpc.use_local_subchannel_pool", 1)]


async def main(address: str, token: str, run_id: str) -> None:
    channels = [grpc.aio.insecure_channel(address, options=_OPTIONS) for _ in range(_CONNECTIONS)]
    request = rpc.WatchRunRequest(run_id=run_id).SerializeToString()
    metadata = (("authorization", f"Bearer {token}"),)
    # What arrives is counted and not parsed: it is the server that is measured.
    methods: list[Any] = [channel.unary_stream(_METHOD) for channel in channels]
    streams = [lambda method=method: method(request, metadata=metadata) for method in methods]
    while line := await asyncio.to_thread(sys.stdin.readline):
        count, seconds = line.split()
        began = time.monotonic()
        end = began + float(seconds)
        readers = (_read(streams[number % _CONNECTIONS], end) for number in range(int(count)))
        received = sum(await asyncio.gather(*readers))
        print(received / (time.monotonic() - began), flush=True)
    await asyncio.gather(*(channel.close() for channel in channels))


async def _read(stream: Any, end: float) -> int:
    """Watches the run again and again until the time is over; the bytes that came."""
    received = 0
    while time.monotonic() < end:
        call = stream()
        while (message := await call.read()) is not grpc.aio.EOF:
            received += len(message)
            if time.monotonic() >= end:
                call.cancel()
                break
    return received


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
