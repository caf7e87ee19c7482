"""Attending a run: showing it until it is over, and what Ctrl-C means meanwhile."""

import asyncio
import signal
import sys
from collections.abc import Callable
from datetime import timedelta

import interlock
from interlock.cli import show
from interlock.cli.task_screen import JsonScreen, Screen, TextScreen
from interlock.errors import FailedPrecondition, InterlockError
from interlock.states import is_final
from interlock.types import OutputChunk, Run
from interlock.v1.run_pb2 import (
    RUN_FAILURE_COMMAND,
    RUN_FAILURE_PLAN,
    RUN_STATE_APPLYING,
    RUN_STATE_FAILED,
    RUN_STATE_FINISHED,
    RUN_STATE_PERFORMING,
    RUN_STATE_UNCONFIRMED,
)

EXIT_INTERLOCK = 125
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141

Connect = Callable[[], interlock.Client]


async def run_task(
    connect: Connect,
    stack_id: str,
    command: str,
    *,
    skip_initialization: bool,
    queue_timeout: timedelta | None,
    request_id: str,
    detach: bool,
    output: show.Format,
) -> int:
    """Creates a task and attends it. Returns the exit code."""
    async with connect() as client:
        run = await client.runs.create_task(
            stack_id,
            command,
            skip_initialization=skip_initialization,
            queue_timeout=queue_timeout,
            request_id=request_id or None,
        )
        if not detach:
            return await Attendance(client, run.id, screen(output), may_stop=True).until_over()
    if output is show.Format.JSON:
        show.print_json(show.as_dict(run))
    else:
        print(run.id)
        show.note(f"interlock: queued; watch it with: interlock task watch {run.id}")
    return 0


async def start_run(
    connect: Connect,
    stack_id: str,
    *,
    auto_confirm: bool | None,
    queue_timeout: timedelta | None,
    request_id: str,
    detach: bool,
    output: show.Format,
) -> int:
    """Starts a tracked run and attends it until its plan waits to be confirmed, or it is over."""
    async with connect() as client:
        run = await client.runs.start(
            stack_id,
            auto_confirm=auto_confirm,
            queue_timeout=queue_timeout,
            request_id=request_id or None,
        )
        if not detach:
            shown = screen(output)
            attendance = Attendance(client, run.id, shown, may_stop=True, leaves_unconfirmed=True)
            code = await attendance.until_over()
            if attendance.is_unconfirmed:
                shown.say(f"apply it with: interlock run confirm {run.id}")
                shown.say(f"or discard it with: interlock run discard {run.id}")
            return code
    if output is show.Format.JSON:
        show.print_json(show.as_dict(run))
    else:
        print(run.id)
        show.note(f"interlock: queued; watch it with: interlock run watch {run.id}")
    return 0


async def watch(connect: Connect, run_id: str, *, offset: int, output: show.Format) -> int:
    """Attends a run that somebody created."""
    async with connect() as client:
        return await Attendance(client, run_id, screen(output), may_stop=False, offset=offset).until_over()


def screen(output: show.Format) -> Screen:
    return JsonScreen() if output is show.Format.JSON else TextScreen()


def exit_code(run: Run) -> int:
    """The command's own, where it was performed to its end."""
    if run.state in {RUN_STATE_FINISHED, RUN_STATE_UNCONFIRMED}:
        return 0
    if run.state == RUN_STATE_FAILED and run.failure in {RUN_FAILURE_COMMAND, RUN_FAILURE_PLAN}:
        return run.exit_code or EXIT_INTERLOCK
    return EXIT_INTERLOCK


class Attendance:
    """One caller who waits for one run.

    The first Ctrl-C before the command performs stops the run, on a terminal after a question. While it
    performs, and the second time in any case, Ctrl-C leaves the run to itself.
    """

    def __init__(
        self,
        client: interlock.Client,
        run_id: str,
        screen: Screen,
        *,
        may_stop: bool,
        offset: int = 0,
        leaves_unconfirmed: bool = False,
    ) -> None:
        """`leaves_unconfirmed`: a plan that waits to be confirmed ends the attendance, once it is shown."""
        self._client = client
        self._run_id = run_id
        self._screen = screen
        self._may_stop = may_stop
        self._offset = offset
        self._leaves_unconfirmed = leaves_unconfirmed
        self._run = Run(id=run_id)
        self._interrupts: asyncio.Queue[None] = asyncio.Queue()
        self._was_interrupted = False

    @property
    def is_unconfirmed(self) -> bool:
        """Its plan waits to be confirmed, and all of it was shown."""
        return self._run.state == RUN_STATE_UNCONFIRMED and self._offset >= self._run.output_size_bytes

    async def until_over(self) -> int:
        """Returns the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupts.put_nowait, None)
        following = asyncio.create_task(self._follow())
        try:
            while not await self._is_done_before_an_interrupt(following):
                if not await self._goes_on(following):
                    self._screen.say(
                        f"{self._run_id} goes on without you; watch it again with: "
                        f"interlock task watch {self._run_id} --offset {self._offset}"
                    )
                    return EXIT_INTERRUPTED
            following.result()
        except InterlockError:
            self._screen.say(
                f"watch it again with: interlock task watch {self._run_id} --offset {self._offset}"
            )
            raise
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            following.cancel()
            await asyncio.wait([following])
        code = exit_code(self._run)
        return EXIT_INTERRUPTED if self._was_interrupted and code == EXIT_INTERLOCK else code

    async def _follow(self) -> None:
        async for event in self._client.runs.follow(self._run_id, offset=self._offset):
            match event:
                case OutputChunk():
                    self._screen.show_output(event)
                    self._offset = event.offset + len(event.data)
                case Run():
                    self._run = event
                    self._screen.show_run(event)
            if self._leaves_unconfirmed and self.is_unconfirmed:
                return

    async def _is_done_before_an_interrupt(self, following: asyncio.Task[None]) -> bool:
        interrupt = asyncio.create_task(self._interrupts.get())
        await asyncio.wait([following, interrupt], return_when=asyncio.FIRST_COMPLETED)
        interrupt.cancel()
        return following.done()

    async def _goes_on(self, following: asyncio.Task[None]) -> bool:
        """Decides after Ctrl-C: False to leave the run to itself."""
        if not self._may_stop or self._was_interrupted:
            return False
        if self._run.state in {RUN_STATE_PERFORMING, RUN_STATE_APPLYING}:
            self._screen.say("the command performs; nothing stops it from here on")
            return False
        if not sys.stdin.isatty():
            return await self._stop()
        match await self._answer(following):
            case True:
                return await self._stop()
            case False:
                return True
            case None:
                return False

    async def _stop(self) -> bool:
        self._was_interrupted = True
        try:
            await self._client.runs.stop(self._run_id)
        except FailedPrecondition as error:
            self._screen.say(str(error))
            return is_final(self._run)
        return True

    async def _answer(self, following: asyncio.Task[None]) -> bool | None:
        """Whether to stop it; None where Ctrl-C came again. The run goes on meanwhile."""
        self._screen.say("it has not begun to perform. Stop it? [y/N] (Ctrl-C again leaves it to itself)")
        line, interrupt = asyncio.create_task(_line()), asyncio.create_task(self._interrupts.get())
        try:
            await asyncio.wait([line, interrupt, following], return_when=asyncio.FIRST_COMPLETED)
            if interrupt.done():
                return None
            return line.done() and line.result().strip().lower() in ("y", "yes")
        finally:
            line.cancel()
            interrupt.cancel()


async def _line() -> str:
    """A line from the terminal, without a thread that would outlive us."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), readable.set)
    try:
        await readable.wait()
        return sys.stdin.readline()
    finally:
        loop.remove_reader(sys.stdin.fileno())
