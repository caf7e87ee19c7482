"""Writes constraints.txt anew: the newest versions that pyproject.toml allows, as pip resolves them now."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = (
    "# The versions that `make` and CI install: what pyproject.toml allows, fixed by `make constraints`.\n"
)


def main() -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--dry-run",
        "--ignore-installed",
        "--report",
        "-",
    ]
    report = subprocess.run(
        [*command, "--no-build-isolation", "--editable", f"{ROOT}[dev]"], stdout=subprocess.PIPE, check=True
    )
    found = (item["metadata"] for item in json.loads(report.stdout)["install"])
    pins = {item["name"].lower(): f"{item['name']}=={item['version']}\n" for item in found}
    pins.pop("interlock")
    (ROOT / "constraints.txt").write_text(HEADER + "".join(pins[name] for name in sorted(pins)))


if __name__ == "__main__":
    main()
