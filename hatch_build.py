"""Build hook: every wheel and editable install carries stubs generated from proto/ at that moment."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class StubsBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling does not export its config type
    PLUGIN_NAME = "stubs"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # A process of its own: protoc is native code, and must not be able to end the build's process.
        subprocess.run([sys.executable, str(Path(self.root, "scripts", "stubs.py"))], check=True)
