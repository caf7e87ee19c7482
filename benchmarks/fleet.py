"""Many runners in a process of their own: real streams, real reports, and no containers. Each run is accepted, goes
through its gate, writes two lines and ends. Says `ready` once all are welcome; answers each line of standard input with
a line of JSON: how many runs have ended so far, and when that was.

    python -m benchmarks.fleet ADDRESS POOL_TOKEN RUNNERS CAPACITY
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc

from interlock.v1 import run_pb2
from interlock.v1 import runner_service_pb2 as rpc
from interlock.v1.runner_service_pb2_grpc import RunnerServiceStub

OUTPUT = b"No objects need to be destroyed.\n" + b"Removed terraform_data.one\n"
_OUTPUT_SHA256 = hashlib.sha256(OUTPUT).hexdigest()
# Else gRPC lets channels to one address share a connection.
_OPTIONS = [("grpc.use_local_subchannel_pool", 1)]


@dataclass
class Tally:
    """Results that were acknowledged."""

    ended: int = 0


@dataclass
class Runner:
    """One stream."""

    number: int
    capacity: int
    pool_token: str
    tally: Tally
    to_send: asyncio.Queue[rpc.ConnectRequest] = field(default_factory=asyncio.Queue)
    welcome: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, address: str) -> None:
        """Until cancelled, or the server ends the stream."""
        async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
            self.to_send.put_nowait(rpc.ConnectRequest(hello=self._hello()))
            heart = asyncio.create_task(self._beat())
            try:
                async for message in RunnerServiceStub(channel).Connect(self._messages()):
                    self._take(message)
            finally:
                heart.cancel()

    def _hello(self) -> rpc.Hello:
        return rpc.Hello(
            pool_token=self.pool_token,
            protocol_version=1,
            version="benchmark",
            runner_id=f"rnr_{self.number:026d}",
            name=f"fleet-{self.number}",
            capacity=self.capacity,
            boot_id="boot",
            machine_id="machine",
        )

    def _take(self, message: rpc.ConnectResponse) -> None:
        match message.WhichOneof("message"):
            case "welcome":
                self.welcome.set()
            case "assignment":
                ref = message.assignment.assignment
                self._send(accepted=rpc.AssignmentAccepted(assignment=ref))
                self._send(phase=rpc.PhaseReport(assignment=ref, phase=run_pb2.RUN_STATE_INITIALIZING))
                self._send(gate=rpc.GateRequest(assignment=ref))
            case "gate":
                ref = message.gate.assignment
                self._send(output=rpc.OutputReport(assignment=ref, offset=0, data=OUTPUT))
                self._send(result=_result(ref))
            case "result_ack":
                self.tally.ended += 1
            case "rejected":
                raise RuntimeError(message.rejected.message)

    def _send(self, **message: object) -> None:
        self.to_send.put_nowait(rpc.ConnectRequest(**message))  # type: ignore[arg-type]

    async def _messages(self) -> AsyncIterator[rpc.ConnectRequest]:
        while True:
            yield await self.to_send.get()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(10)  # as the welcome asks for
            self._send(heartbeat=rpc.Heartbeat())


def _result(ref: rpc.AssignmentRef) -> rpc.RunResult:
    return rpc.RunResult(
        assignment=ref,
        outcome=rpc.RUN_OUTCOME_EXITED,
        exit_code=0,
        output_size_bytes=len(OUTPUT),
        output_sha256=_OUTPUT_SHA256,
    )


async def main(address: str, pool_token: str, runners: int, capacity: int) -> None:
    tally = Tally()
    fleet = [Runner(number, capacity, pool_token, tally) for number in range(runners)]
    async with asyncio.TaskGroup() as group:
        serving = [group.create_task(runner.serve(address)) for runner in fleet]
        for runner in fleet:
            await runner.welcome.wait()
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps({"ended": tally.ended, "at": time.monotonic()}), flush=True)
        for task in serving:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
