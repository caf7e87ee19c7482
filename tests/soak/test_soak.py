"""Invariants 1 to 4 and 7 under many faults at once: a short soak with a fixed seed; `make soak` is the long one."""

from pathlib import Path

import pytest

from scripts import postgres
from tests.soak.soak import soak


@pytest.mark.slow
async def test_no_promise_is_broken_while_parts_are_killed_frozen_cut_off_locked_and_filled(
    short_tmp: Path, engine_url: str, test_image: str
) -> None:
    outcome = await soak(short_tmp, engine_url, test_image, seed="fixed", seconds=25)
    assert outcome.violations == []
    assert outcome.history.executions
    assert len(outcome.injected) > 5


@pytest.mark.slow
async def test_no_promise_is_broken_by_two_control_planes_whose_postgresql_is_killed_and_whose_store_is_cut_off(
    short_tmp: Path, engine_url: str, test_image: str
) -> None:
    with postgres.running() as cluster:
        outcome = await soak(short_tmp, engine_url, test_image, seed="fixed", seconds=20, cluster=cluster)
    assert outcome.violations == []
    assert outcome.history.executions
    assert {"kill of database", "stop of database"} & set(outcome.injected)
