"""`client.runs`: tasks, their states and their output."""

from collections.abc import AsyncIterator, Iterable
from datetime import datetime, timedelta

import grpc

from interlock import enums, follow
from interlock.request_ids import new_request_id
from interlock.times import duration, timestamp
from interlock.transport import Transport
from interlock.v1 import run_service_pb2 as pb
from interlock.v1.run_pb2 import Plan, ReviewVerdict, Run, RunState
from interlock.v1.run_service_pb2 import OutputChunk
from interlock.v1.run_service_pb2_grpc import RunServiceStub


class Runs:
    """Runs of the stacks that the caller may read."""

    def __init__(self, transport: Transport, channel: grpc.aio.Channel) -> None:
        self._transport = transport
        self._stub = RunServiceStub(channel)

    async def create_task(
        self,
        stack_id: str,
        command: str,
        *,
        skip_initialization: bool = False,
        queue_timeout: timedelta | None = None,
        request_id: str | None = None,
    ) -> Run:
        """Queues a shell command on a stack and returns once that is durable.

        Without a `request_id` the client makes one, and retries with it while the server is away. Give your
        own to be safe against the end of your own process, too. Where no runner has it within `queue_timeout`, it is
        DISCARDED (failure QUEUE_TIMEOUT); None: as the stack's limit says, which is for ever where there is none.

        Raises TaskDenied, StackLocked, PermissionDenied, NotFound, SourceUnavailable, PolicyFailed, QueueFull.
        """
        request = pb.CreateTaskRequest(
            stack_id=stack_id,
            command=command,
            skip_initialization=skip_initialization,
            queue_timeout=duration(queue_timeout),
            request_id=request_id or new_request_id(),
        )
        return await self._transport.call(self._stub.CreateTask, request)

    async def explain_task(self, stack_id: str, command: str) -> pb.ExplainTaskResponse:
        """Would `create_task` create it now, and which policy says what? Nothing is created, nothing is stored."""
        request = pb.ExplainTaskRequest(stack_id=stack_id, command=command)
        return await self._transport.call(self._stub.ExplainTask, request)

    async def start(
        self,
        stack_id: str,
        *,
        auto_confirm: bool | None = None,
        queue_timeout: timedelta | None = None,
        request_id: str | None = None,
    ) -> Run:
        """Queues a tracked run: the stack's own init and plan, then apply of exactly that plan once it is confirmed.

        `auto_confirm`: apply a plan with changes without asking; None: as the stack's `autodeploy` says. `queue_timeout`
        and no `request_id` as for `create_task`. Raises StackLocked, PermissionDenied, NotFound, SourceUnavailable,
        WrongState, QueueFull.
        """
        request = pb.StartRunRequest(
            stack_id=stack_id,
            auto_confirm=auto_confirm,
            queue_timeout=duration(queue_timeout),
            request_id=request_id or new_request_id(),
        )
        return await self._transport.call(self._stub.StartRun, request)

    async def confirm(self, run_id: str, note: str = "", *, request_id: str | None = None) -> Run:
        """Lets the plan of a tracked run be applied. Raises WrongState where it does not wait for that."""
        request = pb.ConfirmRunRequest(run_id=run_id, note=note, request_id=request_id or new_request_id())
        return await self._transport.call(self._stub.ConfirmRun, request)

    async def plan(self, run_id: str) -> Plan:
        """What a tracked run's plan changes. Raises WrongState where there is no plan."""
        return await self._transport.call(self._stub.GetPlan, pb.GetPlanRequest(run_id=run_id))

    async def get(self, run_id: str) -> Run:
        return await self._transport.call(self._stub.GetRun, pb.GetRunRequest(run_id=run_id))

    def list(
        self,
        *,
        stack_id: str = "",
        states: Iterable[RunState.ValueType | str] = (),
        caller_login: str = "",
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Run]:
        """Newest first, without their history; all of them unless there is a `limit`."""
        request = pb.ListRunsRequest(
            stack_id=stack_id,
            states=[enums.value(RunState, state) for state in states],
            caller_login=caller_login,
            created_after=timestamp(created_after),
            created_before=timestamp(created_before),
        )
        return self._transport.pages(self._stub.ListRuns, request, lambda page: page.runs, limit=limit)

    def follow(
        self,
        run_id: str,
        *,
        offset: int = 0,
        output: bool = True,
        give_up_after_s: float | None = follow.GIVE_UP_AFTER_S,
    ) -> AsyncIterator[Run | OutputChunk]:
        """The run as it is, then its changes and its masked output as they come, until it is over.

        Restarts of the server are bridged: it goes on at the byte where it stood. No byte is missing and none
        comes twice, or OutputMismatch is raised. Without any word from the server for `give_up_after_s`
        seconds (None: for ever) it raises Unavailable.
        """
        progress = follow.Progress(offset=offset, wants_output=output)
        return follow.follow(self._transport, self._stub, run_id, progress, give_up_after_s=give_up_after_s)

    async def wait(self, run_id: str) -> Run:
        """The run in its final state, as soon as it is there."""
        last = Run()
        async for event in self.follow(run_id, output=False, give_up_after_s=None):
            if isinstance(event, Run):
                last = event
        return last

    async def stop(self, run_id: str) -> Run:
        """Stops a run before it performs. Raises WrongState once it does."""
        return await self._transport.call(self._stub.StopRun, pb.StopRunRequest(run_id=run_id))

    async def approve(self, run_id: str, note: str = "", *, request_id: str | None = None) -> Run:
        """Approves a run that waits for approval, and returns it as its policies then leave it.

        Each person's newest review counts. Raises WrongState where it does not wait for approval.
        """
        return await self._review(run_id, ReviewVerdict.REVIEW_VERDICT_APPROVE, note, request_id)

    async def reject(self, run_id: str, note: str = "", *, request_id: str | None = None) -> Run:
        """As `approve`; policies decide what a rejection means."""
        return await self._review(run_id, ReviewVerdict.REVIEW_VERDICT_REJECT, note, request_id)

    async def _review(
        self, run_id: str, verdict: ReviewVerdict.ValueType, note: str, request_id: str | None
    ) -> Run:
        request = pb.ReviewRunRequest(
            run_id=run_id, verdict=verdict, note=note, request_id=request_id or new_request_id()
        )
        return await self._transport.call(self._stub.ReviewRun, request)

    async def abandon(self, run_id: str, *, reason: str, force: bool = False) -> Run:
        """Gives up a run past its gate whose runner is out of reach, and frees the slot. For admins, who answer for it.

        `force` also takes a run whose runner is in reach. Raises WrongState, PermissionDenied.
        """
        request = pb.AbandonRunRequest(run_id=run_id, reason=reason, force=force)
        return await self._transport.call(self._stub.AbandonRun, request)

    async def late_output(self, run_id: str, *, offset: int = 0) -> AsyncIterator[OutputChunk]:
        """What an abandoned run's runner wrote afterwards, as far as it is stored. It does not follow.

        Offsets count on from the run's own output. Raises WrongState where the run was not abandoned.
        """
        request = pb.ReadLateOutputRequest(run_id=run_id, output_offset=offset)
        async for response in self._transport.stream(self._stub.ReadLateOutput, request):
            yield response.output

    async def discard(self, run_id: str, note: str = "", *, request_id: str | None = None) -> Run:
        """Takes a run out of the queue, or discards a tracked run's plan and frees the slot.

        Raises WrongState where it is neither queued nor waits to be confirmed.
        """
        request = pb.DiscardRunRequest(run_id=run_id, note=note, request_id=request_id or new_request_id())
        return await self._transport.call(self._stub.DiscardRun, request)
