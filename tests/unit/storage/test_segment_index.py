"""Which segments a run has: looked for once however many ask, and anew by each who may know of something newer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from control_plane.errors import DatabaseUnavailable
from control_plane.storage.database import Database
from control_plane.storage.segment_reading import SegmentIndex
from control_plane.storage.segments import Segment

RUN = "run_00000000000000000000000001"
STORED = Segment(RUN, 0, 4, 1, "", "")


class Answers:
    """Stands for the database: answers what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[asyncio.Future[list[Segment]]] = asyncio.Queue()

    async def read(self, _unit: Callable[[Any], Any]) -> list[Segment]:
        answer: asyncio.Future[list[Segment]] = asyncio.get_running_loop().create_future()
        self.waiting.put_nowait(answer)
        return await answer


async def test_a_look_that_failed_is_nobodys_answer() -> None:
    answers = Answers()
    index = SegmentIndex(cast("Database", answers))
    first, second = (asyncio.create_task(index.covering(RUN, 0, 4)) for _ in range(2))
    waits_for_both = asyncio.create_task(index.covering(RUN, 0, 4))
    for _ in range(2):
        (await answers.waiting.get()).set_exception(DatabaseUnavailable("away"))
    (await answers.waiting.get()).set_result([STORED])
    (await answers.waiting.get()).set_result([])
    assert await waits_for_both == [STORED]
    for failed in (first, second):
        with pytest.raises(DatabaseUnavailable):
            await failed
