"""The closed sets of options, as the API names them."""

from enum import StrEnum


class ToolName(StrEnum):
    TERRAFORM = "terraform"
    OPENTOFU = "opentofu"
    TERRAGRUNT = "terragrunt"
    PULUMI = "pulumi"
    KUBERNETES = "kubernetes"
    ANSIBLE = "ansible"
    CUSTOM = "custom"


class LimitKindName(StrEnum):
    POOL = "pool"
    LABEL = "label"
    CALLER = "caller"
    STACK = "stack"


class PullPolicyName(StrEnum):
    IF_NOT_PRESENT = "if_not_present"
    ALWAYS = "always"
    NEVER = "never"


class PolicyKindName(StrEnum):
    TASK = "task"
    ACCESS = "access"
    APPROVAL = "approval"
    LOGIN = "login"


class StateName(StrEnum):
    PENDING_REVIEW = "pending_review"
    QUEUED = "queued"
    READY = "ready"
    PREPARING = "preparing"
    INITIALIZING = "initializing"
    PERFORMING = "performing"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"
    DISCARDED = "discarded"
    PLANNING = "planning"
    UNCONFIRMED = "unconfirmed"
    CONFIRMED = "confirmed"
    APPLYING = "applying"
    HELD = "held"
    EXPIRED = "expired"


class HookPhase(StrEnum):
    BEFORE_INIT = "before_init"
    AFTER_INIT = "after_init"
    BEFORE_PERFORM = "before_perform"
    AFTER_PERFORM = "after_perform"
    AFTER_RUN = "after_run"
    BEFORE_PLAN = "before_plan"
    AFTER_PLAN = "after_plan"
    BEFORE_APPLY = "before_apply"
    AFTER_APPLY = "after_apply"
