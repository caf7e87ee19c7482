"""What `init` means for each tool: its commands, and the variables that keep it from asking questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


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


def init_of(tool: Tool, custom_init: tuple[str, ...] = ()) -> ToolInit:
    """The init of a tool; `custom_init` is that of `Tool.CUSTOM`."""
    return ToolInit(custom_init) if tool is Tool.CUSTOM else _INIT[tool]
