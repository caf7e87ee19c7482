"""AbandonRun: an admin answers for a run that nobody can reach (invariant 3). Its end frees the slot and makes its
fencing token stale; the runner, if it comes back, is let finish, and what it reports is late evidence."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import sqlalchemy as sa
import structlog

from control_plane.audit import events
from control_plane.clock import to_timestamp
from control_plane.identity.principal import Principal
from control_plane.pools.connections import Connections
from control_plane.runs import late, moves, stop, store
from control_plane.runs.errors import LateOffsetPastEnd, WrongState
from control_plane.runs.holds import HOLD
from control_plane.runs.notices import Notices
from control_plane.runs.states import RunState
from control_plane.storage.database import Database
from control_plane.storage.outputs import READ_BLOCK_BYTES, Outputs, StoredOutput
from interlock.v1 import run_pb2
from interlock.v1 import run_service_pb2 as rpc

log = structlog.get_logger(__name__)


class Abandonment:
    """Abandons runs, and reads what their runners wrote afterwards."""

    def __init__(self, db: Database, outputs: Outputs, connections: Connections, notices: Notices) -> None:
        self._db = db
        self._outputs = outputs
        self._connections = connections
        self._notices = notices

    async def abandon(self, principal: Principal, request: rpc.AbandonRunRequest) -> None:
        """As RunService.AbandonRun says. The caller may read the run.

        Raises:
            NotAllowed: the principal is no admin.
            WrongState: it has not passed its gate, its runner is in reach and `force` is not set, or it is over.
        """
        principal.require_admin("abandon runs")
        was_open = self._outputs.opened(request.run_id) is not None
        output = await self._outputs.stored(request.run_id)
        try:
            run = await self._db.write(lambda tx: _abandon(tx, request, principal, output))
        except WrongState:
            if not was_open:
                # Of a run that is over the file may be compressed: there is nothing to hold open.
                self._outputs.release(request.run_id)
            raise
        # A runner that is here goes on writing to it.
        if self._connections.of_runner(run.runner_id) is None:
            self._outputs.release(run.id)
        log.warning("run.abandoned", run_id=run.id, by=principal.login, reason=request.reason)
        self._notices.run_moved(run.id)
        self._notices.queue_changed(run.stack_id)

    async def late_output(self, run: sa.Row[Any], offset: int) -> AsyncIterator[rpc.OutputChunk]:
        """What is stored behind the run's own output, from `offset` on.

        Raises:
            WrongState: the run was not abandoned.
            LateOffsetPastEnd: nothing is stored there.
        """
        if run.failure != run_pb2.RUN_FAILURE_ABANDONED:
            raise WrongState(
                run.id, f"{run.id} was not abandoned: all its output is its own, WatchRun gives it"
            )
        position = max(offset, run.output_size_bytes)
        if position > run.output_size_bytes and not await self._outputs.read(run.id, position - 1, 1):
            raise LateOffsetPastEnd(offset)
        while data := await self._outputs.read(run.id, position, READ_BLOCK_BYTES):
            yield rpc.OutputChunk(offset=position, data=data)
            position += len(data)


def _abandon(
    connection: sa.Connection, request: rpc.AbandonRunRequest, by: Principal, output: StoredOutput
) -> sa.Row[Any]:
    run = stop.find(connection, request.run_id)
    if run.failure == run_pb2.RUN_FAILURE_ABANDONED:
        return run
    _require_abandonable(run, force=request.force)
    since = to_timestamp(run.unreachable_since).ToJsonString() if run.unreachable_since else ""
    moves.end(
        connection,
        run,
        RunState.FAILED,
        f"abandoned by {by.login}: {request.reason}",
        by=by,
        failure=run_pb2.RUN_FAILURE_ABANDONED,
        output=output,
        keeps_job=True,
    )
    store.bump_fence(connection, run.stack_id)
    if run.unreachable_since is None:
        late.note_return(connection, run.id)
    events.record(
        connection,
        by,
        "run.abandoned",
        "run",
        run.id,
        stack_id=run.stack_id,
        details={
            "reason": request.reason,
            "force": request.force,
            "fence": run.fence,
            "runner_id": run.runner_id,
            "unreachable_since": since,
        },
    )
    return run


def _require_abandonable(run: sa.Row[Any], *, force: bool) -> None:
    state = RunState(run.state)
    if state.is_final:
        raise WrongState(run.id, f"{run.id} is over: it is {state}")
    if run.type == HOLD:
        raise WrongState(
            run.id, f"{run.id} is a hold, which no runner performs: an admin lets go of it with ReleaseSlot"
        )
    if not state.has_passed_gate:
        raise WrongState(
            run.id,
            f"{run.id} has not passed its gate: it is {state}; stop it instead, nothing of its command was performed",
        )
    if run.unreachable_since is None and not force:
        raise WrongState(
            run.id,
            f"the runner of {run.id} is in reach, and its command may be performing this moment: wait for its end, or "
            "abandon it with `force` if you answer for two commands on the stack at once",
        )
