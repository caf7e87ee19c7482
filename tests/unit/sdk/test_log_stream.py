"""A server whose log cannot be written goes on."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from interlock.log_stream import LogStream
log = LogStream()
for _ in range(3):
    log.write("a line\\n")
    log.flush()
print("goes on")
"""


def test_a_full_disk_behind_standard_error_is_no_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=full, text=True, check=False
        )
    assert done.stdout == "goes on\n"
