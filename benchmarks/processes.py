"""CPU time and memory of processes, and of the machine, from /proc; and processes of the benchmarks' own."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, those of its ended children included."""
    fields = _stat_fields(pid)
    return sum(int(field) for field in fields[11:15]) / _TICKS_PER_S


def forget_peak(pid: int) -> None:
    """`peak_rss_mib` begins anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_rss_mib(pid: int) -> float:
    """The most memory that a process had resident since its start or `forget_peak`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def family(pid: int) -> list[int]:
    """A process and all its living descendants."""
    found = [pid]
    for member in found:
        for task in Path(f"/proc/{member}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def opas_of(server_pid: int) -> list[int]:
    """The OPA that decides for a control plane, and any that it started beside."""
    return [each for each in family(server_pid) if Path(f"/proc/{each}/comm").read_text() == "opa\n"]


def family_cpu_s(pid: int) -> float:
    return sum(map(cpu_s, family(pid)))


def machine_busy_s() -> float:
    """CPU seconds that this machine was busy so far, or robbed of by its host."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S


@asynccontextmanager
async def ready(module: str, *arguments: str) -> AsyncIterator[Process]:
    """One of the benchmarks' processes, from when it says `ready`; it leaves when its standard input ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdin=PIPE, stdout=PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if await process.stdout.readline() != b"ready\n":
        raise RuntimeError(f"{module} did not get ready")
    try:
        yield process
    finally:
        process.stdin.close()
        await process.wait()


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the command's name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
