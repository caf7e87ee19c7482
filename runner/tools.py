"""What init, plan and apply are for each tool: commands, and the variables that keep it from asking questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from runner.errors import ScriptRefused


class Tool(StrEnum):
    TERRAFORM = "terraform"
    OPENTOFU = "opentofu"
    TERRAGRUNT = "terragrunt"
    PULUMI = "pulumi"
    KUBERNETES = "kubernetes"
    ANSIBLE = "ansible"
    CUSTOM = "custom"


@dataclass(frozen=True)
class ToolInit:
    commands: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


_NOT_INTERACTIVE_TERRAFORM = {"TF_IN_AUTOMATION": "1", "TF_INPUT": "0"}

_ANSIBLE_REQUIREMENTS = """\
for file in requirements.yml requirements.yaml roles/requirements.yml collections/requirements.yml; do
  if [ -f "$file" ]; then ansible-galaxy install -r "$file" || exit; fi
done"""

_PULUMI_SELECT = """\
if [ -n "${PULUMI_STACK:-}" ]; then
  pulumi stack select --create --non-interactive --color never -- "$PULUMI_STACK"
fi"""

_INIT = {
    Tool.TERRAFORM: ToolInit(("terraform init -input=false -no-color",), _NOT_INTERACTIVE_TERRAFORM),
    Tool.OPENTOFU: ToolInit(("tofu init -input=false -no-color",), _NOT_INTERACTIVE_TERRAFORM),
    # The names before and after Terragrunt 0.73; each version ignores the other's.
    Tool.TERRAGRUNT: ToolInit(
        ("terragrunt init -input=false -no-color",),
        _NOT_INTERACTIVE_TERRAFORM
        | {"TERRAGRUNT_NON_INTERACTIVE": "true", "TG_NON_INTERACTIVE": "true", "TG_NO_COLOR": "true"},
    ),
    # Where to log in to is PULUMI_BACKEND_URL or PULUMI_ACCESS_TOKEN, as everywhere with Pulumi.
    Tool.PULUMI: ToolInit(
        ("pulumi login --non-interactive --color never", _PULUMI_SELECT), {"PULUMI_SKIP_UPDATE_CHECK": "true"}
    ),
    Tool.KUBERNETES: ToolInit(("kubectl version --client",)),
    Tool.ANSIBLE: ToolInit((_ANSIBLE_REQUIREMENTS,), {"ANSIBLE_NOCOLOR": "1"}),
}


@dataclass(frozen=True)
class Sequence:
    """What a tracked run does. `plan` and `apply` find each other's files in $INTERLOCK_PLAN_DIR (runner/script.py)."""

    plan: tuple[str, ...]
    apply: tuple[str, ...]


# Exit code 2: there are changes (https://developer.hashicorp.com/terraform/cli/commands/plan#detailed-exitcode).
_PLAN = """\
{tool} plan -input=false -no-color -detailed-exitcode -out="$INTERLOCK_PLAN_DIR/plan"
case $? in 0) : >"$INTERLOCK_PLAN_DIR/no-changes" ;; 2) ;; *) false ;; esac"""
_SHOW = '{tool} show -no-color -json "$INTERLOCK_PLAN_DIR/plan" >"$INTERLOCK_PLAN_DIR/plan.json"'
_APPLY = '{tool} apply -input=false -no-color "$INTERLOCK_PLAN_DIR/plan"'
_PROGRAMS = {Tool.TERRAFORM: "terraform", Tool.OPENTOFU: "tofu"}


def sequence_of(tool: Tool, custom_plan: tuple[str, ...], custom_apply: tuple[str, ...]) -> Sequence:
    """The stack's own commands where it has them, else the tool's. Raises `ScriptRefused`: there are neither."""
    if custom_plan:
        return Sequence(custom_plan, custom_apply)
    if (program := _PROGRAMS.get(tool)) is None:
        raise ScriptRefused(f"{tool} brings no plan and apply of its own; set the stack's custom ones")
    plan, show, apply = (text.format(tool=program) for text in (_PLAN, _SHOW, _APPLY))
    return Sequence((plan, show), (apply,))


def init_of(tool: Tool, custom_init: tuple[str, ...] = ()) -> ToolInit:
    """The init of a tool; `custom_init` is that of `Tool.CUSTOM`."""
    return ToolInit(custom_init) if tool is Tool.CUSTOM else _INIT[tool]
