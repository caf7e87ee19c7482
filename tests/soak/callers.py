"""Callers of a soak: they create tasks, say so twice, stop some, and follow them to their end, through all faults."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from interlock import errors, types
from interlock.client import Client
from interlock.follow import CUT_OFF
from interlock.states import is_final
from tests.soak.command import Command
from tests.soak.history import Answer, Created, History

# Nobody answered, or not to the end: it may have been done or not.
_UNKNOWN: Final = (errors.Unavailable, errors.DeadlineExceeded)
# The server says that it did nothing, because a part of it was broken.
_REFUSED: Final = (errors.PolicyFailed, errors.ResourceExhausted, errors.ChangedMeanwhile)
_AGAIN_S: Final = 0.2


class Caller:
    """Creates tasks one after the other over `client`, and follows them over `watching`."""

    def __init__(
        self,
        name: str,
        client: Client,
        watching: Client,
        stacks: Sequence[str],
        history: History,
        *,
        seed: str,
    ) -> None:
        self._name = name
        self._client = client
        self._watching = watching
        self._stacks = stacks
        self._history = history
        self._dice = random.Random(f"{seed}/{name}")

    async def work(self, end: asyncio.Event) -> None:
        """Until `end`, and then until all that it follows is over."""
        number = 0
        async with asyncio.TaskGroup() as following:
            while not end.is_set():
                number += 1
                created = await self._create(self._draw(f"{self._name}-{number}"))
                if not created.run_id:
                    await asyncio.sleep(_AGAIN_S)
                    continue
                followed = following.create_task(self._follow(created.run_id))
                if self._dice.random() < 0.15:
                    await self._stop(created.run_id)
                if self._dice.random() < 0.8:
                    await followed

    def _draw(self, key: str) -> Command:
        dice = self._dice
        lines = dice.choice((1, 60, 400, 1500, 4000))
        return Command(
            key=key,
            stack_id=dice.choice(self._stacks),
            lines=lines,
            burst=max(lines // dice.randint(5, 40), 1),
            exit_code=dice.choice((0, 0, 0, 3)),
        )

    async def _create(self, command: Command) -> Created:
        created = await self._ask(command)
        while created.answer is Answer.UNKNOWN and self._dice.random() < 0.8:
            created = await self._ask(command)
        if self._dice.random() < 0.3:
            # The answer went astray, says the caller, and asks again.
            again = await self._ask(command)
            created = again if again.run_id else created
        return created

    async def _ask(self, command: Command) -> Created:
        try:
            run = await self._client.runs.create_task(
                command.stack_id, command.text, request_id=f"soak-{command.key}"
            )
            created = Created(command, Answer.DONE, run.id)
        except _REFUSED:
            created = Created(command, Answer.REFUSED)
        except errors.InterlockError as error:
            self._expect(error, f"the creation of {command.key}")
            created = Created(command, Answer.UNKNOWN)
        self._history.created.append(created)
        return created

    async def _stop(self, run_id: str) -> None:
        await asyncio.sleep(self._dice.random())
        try:
            await self._client.runs.stop(run_id)
        except errors.WrongState:
            return
        except errors.InterlockError as error:
            if not isinstance(error, _REFUSED):
                self._expect(error, f"the stop of {run_id}")
        else:
            self._history.stopped.add(run_id)

    async def _follow(self, run_id: str) -> None:
        """By streams that are now and then left in the middle, each from the byte where the last one was left."""
        output = b""
        is_over = False
        while not is_over:
            left = self._dice.randint(3, 60)
            is_over = True
            try:
                async for event in self._watching.runs.follow(
                    run_id, offset=len(output), give_up_after_s=None
                ):
                    if isinstance(event, types.OutputChunk):
                        output += event.data
                    left -= 1
                    if not left:
                        is_over = False
                        break
            except errors.OffsetPastEnd:
                # Of a run that is over: what was seen before it was durable was lost with its runner before the gate.
                is_over = await self._is_over(run_id)
                await asyncio.sleep(_AGAIN_S)
            except errors.InterlockError as error:
                is_over = not self._expect(error, f"the watcher of {run_id}")
                await asyncio.sleep(_AGAIN_S)
        self._history.watched.append((run_id, output))

    async def _is_over(self, run_id: str) -> bool:
        try:
            return is_final(await self._watching.runs.get(run_id))
        except errors.InterlockError as error:
            return not self._expect(error, f"a look at {run_id}")

    def _expect(self, error: errors.InterlockError, what: str) -> bool:
        """Whether it is one that a caller has to live with; otherwise it is complained about."""
        # Seen and not yet durable when the server died: those bytes come again from the runner.
        lived_with = isinstance(error, (*_UNKNOWN, errors.OffsetPastEnd)) or (
            error.code in CUT_OFF and not error.reason
        )
        if not lived_with:
            self._history.complaints.append(f"{what} met {type(error).__name__}: {error}")
        return lived_with
