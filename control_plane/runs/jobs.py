"""Jobs: a run and its stack as they are at the moment when the slot is taken, in the words of the runner."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from control_plane import errors
from control_plane.clock import to_timestamp
from control_plane.keys import Sealer
from control_plane.runs import assignments, plans
from control_plane.runs.errors import PlanGone
from control_plane.runs.planned import TRACKED
from control_plane.runs.states import RunState
from control_plane.stacks import environment, pinning, snapshot
from control_plane.stacks.snapshot import StackSnapshot
from control_plane.storage.tables import pools
from interlock.v1 import pool_pb2, run_pb2
from interlock.v1 import runner_service_pb2 as rpc

_CONTAINERS = sa.select(pools.c.id, pools.c.container).where(
    pools.c.id.in_(sa.bindparam("pool_ids", expanding=True))
)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the jobs of one transaction are made of, by stack and by pool."""

    stacks: Mapping[str, StackSnapshot]
    environments: Mapping[str, environment.Stored]
    containers: Mapping[str, bytes]


class JobBuilder:
    """Builds jobs inside the scheduler's transaction. They hold secrets in the clear."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def gather(
        self, connection: sa.Connection, stack_ids: Collection[str], pool_ids: Collection[str]
    ) -> Parts:
        """In four statements, however many; stacks that are gone are left out."""
        return Parts(
            snapshot.load_present(connection, list(stack_ids)),
            environment.stored(connection, stack_ids),
            {row.id: row.container for row in connection.execute(_CONTAINERS, {"pool_ids": list(pool_ids)})},
        )

    def build(self, connection: sa.Connection, run: sa.Row[Any], pool_id: str, parts: Parts) -> rpc.Job:
        """For a runner of this pool.

        Raises:
            NotFound: the stack is gone.
            PlanGone: it is to be applied, and what its plan left is not there.
            MasterKeyError: a secret cannot be opened.
        """
        if RunState(run.state) is RunState.CONFIRMED:
            return self._apply(connection, run, parts.containers[pool_id])
        stack = parts.stacks.get(run.stack_id)
        if stack is None:
            raise errors.NotFound("stack", run.stack_id)
        variables, files = environment.job_environment(self._sealer, parts.environments[stack.id])
        return rpc.Job(
            stack_id=stack.id,
            stack_name=stack.name,
            run_type=run_pb2.RunType.Value(f"RUN_TYPE_{run.type}"),
            command=run.command,
            skip_initialization=run.skip_initialization,
            tool=stack.tool,
            custom_init=stack.custom_init,
            image=stack.image,
            pull_policy=stack.pull_policy,
            hooks=stack.hooks,
            variables=variables,
            files=files,
            source=pinning.job_source(self._sealer, run, stack),
            container=pool_pb2.ContainerOptions.FromString(parts.containers[pool_id]),
            creator_login=run.creator_login,
            create_time=to_timestamp(run.created_at),
            part=rpc.RUN_PART_PLAN if run.type == TRACKED else rpc.RUN_PART_UNSPECIFIED,
            custom_plan=stack.custom_plan,
            custom_apply=stack.custom_apply,
        )

    def _apply(self, connection: sa.Connection, run: sa.Row[Any], options: bytes) -> rpc.Job:
        """The job that planned, whatever the stack has become since: what was confirmed is what is applied."""
        plan = plans.find(connection, run.id)
        if plan is None or plan.job_sealed is None:
            raise PlanGone(run.id, "its job was removed")
        job = assignments.open_sealed_job(plan.job_sealed, plan.assignment_id, self._sealer)
        job.part = rpc.RUN_PART_APPLY
        job.kept_plan.sha256, job.kept_plan.size_bytes = plan.kept_sha256, plan.kept_size_bytes
        # What a container may do is the pool's matter, and of now.
        job.container.CopyFrom(pool_pb2.ContainerOptions.FromString(options))
        return job
