"""docs/scaling.md says what the figures say that were measured last."""

from __future__ import annotations

from benchmarks import forecast, results

FIGURES = {
    "dispatch_growth": 1.2,
    "dispatch_rate_sqlite": 1000.0,
    "dispatch_rate_pg": 100.0,
    "create_task_rate": 300.0,
    "idle_cpu": 1.0,
}


def test_the_page_shows_the_forecast_of_the_newest_figures() -> None:
    assert forecast.kept() == forecast.table(forecast.latest()), (
        "run: .venv/bin/python -m benchmarks.forecast --keep"
    )


def test_what_is_used_most_comes_first() -> None:
    used = [stage.used for stage in forecast.stages(FIGURES)]
    assert used == sorted(used, reverse=True)
    assert forecast.stages(FIGURES)[0].what == "claims and ends, PostgreSQL"


def test_a_queue_that_is_served_more_slowly_than_it_fills_grows_all_the_hour() -> None:
    assert forecast.longest_wait_s(forecast.RUNS_PER_S / 2) > 3000
    assert forecast.longest_wait_s(forecast.RUNS_PER_S * 1000) < 1


def test_what_was_not_measured_is_not_invented() -> None:
    assert forecast.table({}).count("not measured yet") == 3
    assert set(FIGURES) <= set(results.TARGETS)
