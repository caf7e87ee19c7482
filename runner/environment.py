"""What a job means for its container: the script to run, and the engine's options. Pure translation."""

from __future__ import annotations

from interlock.v1 import pool_pb2, run_pb2, stack_pb2
from interlock.v1.runner_service_pb2 import (
    RUN_PART_APPLY,
    RUN_PART_PLAN,
    RUN_PART_UNSPECIFIED,
    AssignmentRef,
    Job,
)
from runner import script, tools
from runner.engine import ContainerSpec, Limits
from runner.images import PullPolicy
from runner.secret import Secret

DEFAULT_NO_OUTPUT_S = 7 * 60.0
DEFAULT_TOTAL_S = 70 * 60.0

_TOOLS = {
    stack_pb2.TOOL_UNSPECIFIED: tools.Tool.CUSTOM,
    stack_pb2.TOOL_TERRAFORM: tools.Tool.TERRAFORM,
    stack_pb2.TOOL_OPENTOFU: tools.Tool.OPENTOFU,
    stack_pb2.TOOL_TERRAGRUNT: tools.Tool.TERRAGRUNT,
    stack_pb2.TOOL_PULUMI: tools.Tool.PULUMI,
    stack_pb2.TOOL_KUBERNETES: tools.Tool.KUBERNETES,
    stack_pb2.TOOL_ANSIBLE: tools.Tool.ANSIBLE,
    stack_pb2.TOOL_CUSTOM: tools.Tool.CUSTOM,
}
_PULL_POLICIES = {
    stack_pb2.PULL_POLICY_UNSPECIFIED: PullPolicy.IF_NOT_PRESENT,
    stack_pb2.PULL_POLICY_IF_NOT_PRESENT: PullPolicy.IF_NOT_PRESENT,
    stack_pb2.PULL_POLICY_ALWAYS: PullPolicy.ALWAYS,
    stack_pb2.PULL_POLICY_NEVER: PullPolicy.NEVER,
}


def script_of(job: Job, assignment: AssignmentRef) -> script.RunScript:
    tool = _TOOLS[job.tool]
    init = tools.init_of(tool, tuple(job.custom_init))
    plan: tuple[str, ...] = ()
    apply: tuple[str, ...] = ()
    if job.part in {RUN_PART_PLAN, RUN_PART_APPLY}:
        sequence = tools.sequence_of(tool, tuple(job.custom_plan), tuple(job.custom_apply))
        plan = sequence.plan if job.part == RUN_PART_PLAN else ()
        apply = sequence.apply if job.part == RUN_PART_APPLY else ()
    return script.RunScript(
        command=job.command,
        plan=plan,
        apply=apply,
        init=init.commands,
        skip_initialization=job.skip_initialization,
        hooks=script.Hooks(
            before_init=tuple(job.hooks.before_init),
            after_init=tuple(job.hooks.after_init),
            before_perform=tuple(job.hooks.before_perform),
            after_perform=tuple(job.hooks.after_perform),
            before_plan=tuple(job.hooks.before_plan),
            after_plan=tuple(job.hooks.after_plan),
            before_apply=tuple(job.hooks.before_apply),
            after_apply=tuple(job.hooks.after_apply),
            after_run=tuple(job.hooks.after_run),
        ),
        project_root=job.source.project_root,
        defaults=init.variables,
        variables={variable.name: variable.value for variable in job.variables if not variable.secret},
        secrets={variable.name: Secret(variable.value) for variable in job.variables if variable.secret},
        run_variables=run_variables(job, assignment),
    )


def run_variables(job: Job, assignment: AssignmentRef) -> dict[str, str]:
    """What a command can know about its run."""
    tracked = {} if job.part == RUN_PART_UNSPECIFIED else {"INTERLOCK_PLAN_DIR": script.PLAN}
    return tracked | {
        "INTERLOCK_RUN_ID": assignment.run_id,
        "INTERLOCK_RUN_TYPE": run_pb2.RunType.Name(job.run_type).removeprefix("RUN_TYPE_").lower(),
        "INTERLOCK_STACK_ID": job.stack_id,
        "INTERLOCK_STACK_NAME": job.stack_name,
        "INTERLOCK_CREATOR": job.creator_login,
        "INTERLOCK_PROJECT_ROOT": job.source.project_root,
        "INTERLOCK_REF": job.source.git.ref,
        "INTERLOCK_COMMIT": job.source.git.commit,
        "INTERLOCK_SOURCE_SHA256": job.source.archive.sha256,
    }


def spec_of(job: Job, *, name: str, end_line: str, labels: dict[str, str]) -> ContainerSpec:
    options = job.container
    defaults = Limits()
    return ContainerSpec(
        name=name,
        image=job.image,
        end_line=end_line,
        labels=labels,
        limits=Limits(
            memory_bytes=memory_bytes(options),
            cpu_millis=options.cpu_millis or defaults.cpu_millis,
            pids=options.pids or defaults.pids,
        ),
        network_mode=options.network_mode,
        mounts=tuple(options.mounts),
        runtime=options.runtime,
    )


def pull_policy(job: Job) -> PullPolicy:
    return _PULL_POLICIES[job.pull_policy]


def memory_bytes(options: pool_pb2.ContainerOptions) -> int:
    return options.memory_bytes or Limits().memory_bytes


def no_output_timeout_s(options: pool_pb2.ContainerOptions) -> float:
    if not options.HasField("no_output_timeout"):
        return DEFAULT_NO_OUTPUT_S
    return options.no_output_timeout.ToTimedelta().total_seconds()


def total_timeout_s(options: pool_pb2.ContainerOptions) -> float:
    if not options.HasField("total_timeout"):
        return DEFAULT_TOTAL_S
    return options.total_timeout.ToTimedelta().total_seconds()
