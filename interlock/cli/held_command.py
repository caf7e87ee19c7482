"""A local command inside a stack's slot: waits for the slot, runs the command, renews meanwhile, lets go afterwards.

The command is never killed: where it is cut off in the middle, the infrastructure may be half changed. Signals are passed
on to it, and the slot is held until it has ended by itself.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import interlock
from interlock.cli import failures, show
from interlock.cli.task_run import EXIT_INTERLOCK
from interlock.cli.task_screen import TextScreen
from interlock.errors import HoldLost, InterlockError
from interlock.slots import HeldSlot

EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
# As shells tell of a signal.
_EXIT_SIGNAL = 128
# What a terminal sends to the command, too, which is in the same group of processes.
_FROM_TERMINAL = frozenset({signal.SIGINT, signal.SIGHUP})


@dataclass(frozen=True)
class Wanted:
    """What slot, and on what terms."""

    stack_id: str
    purpose: str
    lease: timedelta
    release_on_expiry: bool
    queue_timeout: timedelta | None


async def run(connect: Callable[[], interlock.Client], wanted: Wanted, command: Sequence[str]) -> int:
    """Runs `command` inside the slot. Returns the exit code."""
    async with connect() as client:
        with _signals() as signals:
            return await _HeldCommand(client, wanted, command, signals).until_over()


class _HeldCommand:
    """One command and the slot that it runs in."""

    def __init__(
        self,
        client: interlock.Client,
        wanted: Wanted,
        command: Sequence[str],
        signals: "asyncio.Queue[signal.Signals]",
    ) -> None:
        self._wanted = wanted
        self._command = command
        self._signals = signals
        self._screen = TextScreen()
        self._hold: HeldSlot = client.slots.hold(
            wanted.stack_id,
            purpose=wanted.purpose,
            lease_s=wanted.lease.total_seconds(),
            release_on_expiry=wanted.release_on_expiry,
            queue_timeout=wanted.queue_timeout,
            on_change=self._screen.show_run,
            on_trouble=self._tell_trouble,
        )

    async def until_over(self) -> int:
        interrupted = await self._enter()
        if interrupted is not None:
            return _EXIT_SIGNAL + interrupted
        # Whatever goes wrong from here on: nobody lets go while the command may be running.
        return await self._let_go(await self._perform())

    async def _enter(self) -> signal.Signals | None:
        """Waits for the slot. Returns the signal that ended the waiting."""
        entering = asyncio.create_task(self._hold.__aenter__())
        number = await self._signal_before(entering)
        if number is None:
            entering.result()
            return None
        entering.cancel()
        await asyncio.wait([entering])
        if not entering.cancelled() and entering.exception() is None:
            await self._hold.__aexit__(None, None, None)
        self._say(f"given up: the slot of {self._wanted.stack_id} is not waited for any more")
        return number

    async def _perform(self) -> int:
        """The command's exit code, once it has ended."""
        try:
            process = await asyncio.create_subprocess_exec(*self._command, env=self._environment())
        except (OSError, ValueError) as error:
            self._say(f"{self._command[0]} cannot be run: {error}")
            return EXIT_NOT_FOUND if isinstance(error, FileNotFoundError) else EXIT_NOT_EXECUTABLE
        ending = asyncio.create_task(process.wait())
        while (number := await self._signal_before(ending)) is not None:
            if not (number in _FROM_TERMINAL and _is_in_foreground()):
                with suppress(ProcessLookupError):
                    process.send_signal(number)
            self._say(
                f"the command has got {number.name}; the slot of {self._wanted.stack_id} is held until it has ended"
            )
        code = ending.result()
        return code if code >= 0 else _EXIT_SIGNAL - code

    async def _let_go(self, code: int) -> int:
        """The command's exit code; where that is 0 and the slot was not held to the end, or is held still, our own."""
        try:
            await self._hold.__aexit__(None, None, None)
        except InterlockError as error:
            with suppress(OSError):
                failures.report(error)
            if not isinstance(error, HoldLost):
                self._say(
                    f"the slot of {self._wanted.stack_id} was not let go of, and stays taken; let go of it with: "
                    f"interlock stack release {self._wanted.stack_id}"
                )
            return code or EXIT_INTERLOCK
        with suppress(OSError):
            self._screen.show_run(self._hold.run)
        return code

    async def _signal_before(
        self, task: "asyncio.Task[HeldSlot] | asyncio.Task[int]"
    ) -> signal.Signals | None:
        """The next signal, or None once the task is done."""
        got = asyncio.create_task(self._signals.get())
        await asyncio.wait([task, got], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            got.cancel()
            return None
        return got.result()

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "INTERLOCK_STACK_ID": self._wanted.stack_id,
            "INTERLOCK_RUN_ID": self._hold.run_id,
            "INTERLOCK_RUN_TYPE": "hold",
            "INTERLOCK_FENCING_TOKEN": str(self._hold.fencing_token),
        }

    def _say(self, sentence: str) -> None:
        """A terminal that went away must not end the renewing, or the waiting for the command."""
        with suppress(OSError):
            self._screen.say(sentence)

    def _tell_trouble(self, error: InterlockError | None) -> None:
        stack_id = self._wanted.stack_id
        if error is None:
            self._say(f"the hold on {stack_id} is renewed again; the slot was yours all the while")
        elif self._hold.lost is not None:
            self._say(f"WARNING: {self._hold.lost}")
            self._say("WARNING: the command goes on, and another may run beside it now")
        else:
            self._say(f"WARNING: the hold on {stack_id} could not be renewed: {error}")
            self._say(f"WARNING: the command goes on; {self._prospect()}")

    def _prospect(self) -> str:
        ends = f"the lease ends at {show.when(self._hold.run.hold.lease_end_time)}"
        if self._wanted.release_on_expiry:
            return f"{ends}, and the slot may be another's from then on"
        return f"{ends}; even then the slot stays yours until you or an admin let go of it"


@contextmanager
def _signals() -> "Iterator[asyncio.Queue[signal.Signals]]":
    """Those that ask to end, in place of what they would do to this process."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[signal.Signals] = asyncio.Queue()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, queue.put_nowait, number)
    try:
        yield queue
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _is_in_foreground() -> bool:
    """What the terminal sends reaches the command by itself."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
