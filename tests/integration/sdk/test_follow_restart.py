"""The SDK's follow over the sudden end of the whole system: a performing task goes on, and no byte is lost."""

import asyncio
import os
import signal
from pathlib import Path

import interlock
from interlock.types import OutputChunk, Run
from tests.integration.sdk.running import Dev, descendants

LINES = 60
COMMAND = f"i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); sleep 0.1; done"


def child(dev: Dev, module: str) -> int:
    name = f"\0{module}\0".encode()
    return next(
        pid for pid in descendants(dev.process.pid) if name in Path(f"/proc/{pid}/cmdline").read_bytes()
    )


async def test_follow_sees_every_byte_once_though_the_control_plane_and_runner_are_killed(
    own_dev: Dev, test_image: str, tmp_path: Path
) -> None:
    await asyncio.to_thread(own_dev.start)
    (tmp_path / "source").mkdir()
    own_dev.run("stack", "create", "network", "--tool", "custom", "--image", test_image)
    own_dev.run("stack", "push", "network", str(tmp_path / "source"))
    address = (own_dev.data_dir / "address").read_text().strip()
    api_key = (own_dev.data_dir / "admin.key").read_text().strip()
    text, last, restarting = b"", Run(), None

    async with interlock.connect(address, api_key=api_key) as client:
        run = await client.runs.create_task("network", COMMAND)
        async for event in client.runs.follow(run.id):
            match event:
                case OutputChunk(data=data):
                    text += data
                case Run():
                    last = event
            if text and restarting is None:
                restarting = asyncio.create_task(asyncio.to_thread(kill_and_start_again, own_dev))

    assert restarting is not None
    await restarting
    assert text == b"".join(b"line %d\n" % number for number in range(LINES))
    assert interlock.is_final(last)
    assert last.exit_code == 0


def kill_and_start_again(dev: Dev) -> None:
    for module in ("control_plane", "runner"):
        os.kill(child(dev, module), signal.SIGKILL)
    dev.process.wait(timeout=60)
    dev.start()
