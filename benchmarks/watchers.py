"""A thousand watchers of one or several runs on twenty connections, in a process of their own. Says `ready` once each
has seen its run, and leaves when its standard input ends.

    python -m benchmarks.watchers ADDRESS TOKEN RUN…
"""

from __future__ import annotations

import asyncio
import sys

import grpc

from interlock.v1 import run_service_pb2 as rpc
from interlock.v1.run_service_pb2_grpc import RunServiceStub

WATCHERS = 1000
CONNECTIONS = 20
# Else gRPC lets channels to one address share a connection.
_OPTIONS = [("grpc.use_local_subchannel_pool", 1)]


async def main(address: str, token: str, *run_ids: str) -> None:
    channels = [grpc.aio.insecure_channel(address, options=_OPTIONS) for _ in range(CONNECTIONS)]
    requests = [rpc.WatchRunRequest(run_id=run_id) for run_id in run_ids]
    metadata = (("authorization", f"Bearer {token}"),)
    streams = [
        RunServiceStub(channels[number % CONNECTIONS]).WatchRun(
            requests[number % len(requests)], metadata=metadata
        )
        for number in range(WATCHERS)
    ]
    await asyncio.gather(*(stream.read() for stream in streams))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await asyncio.gather(*(channel.close() for channel in channels))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
