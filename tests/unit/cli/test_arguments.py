"""Arguments as people write them, and the sets that the API closes."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum

import pytest
import typer

from interlock import enums
from interlock.cli import choices, durations, moments, sizes, sources
from interlock.types import GitSource, Hooks, PolicyKind, PullPolicy, RunState, Source, Tool


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        (choices.ToolName, enums.names(Tool)),
        (choices.PullPolicyName, enums.names(PullPolicy)),
        (choices.PolicyKindName, enums.names(PolicyKind)),
        (choices.StateName, enums.names(RunState)),
        (choices.HookPhase, [field.name for field in Hooks.DESCRIPTOR.fields]),
    ],
)
def test_each_choice_is_the_apis(choice: type[StrEnum], names: list[str]) -> None:
    assert [each.value for each in choice] == names


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("15m", 900), ("12h", 43200), ("90d", 7776000)])
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert durations.parse(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "0s", "-1s", "1", "s", "1.5h", "1h30m", "1y"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="30s, 15m"):
        durations.parse(text)


@pytest.mark.parametrize(("text", "size"), [("7", 7), ("512m", 512 << 20), ("4G", 4 << 30)])
def test_a_size_is_a_number_and_a_unit(text: str, size: int) -> None:
    assert sizes.parse(text) == size


def test_a_moment_is_a_time_or_how_long_ago() -> None:
    ago = moments.parse("2h")

    assert moments.parse("") is None
    assert moments.parse("2026-05-01T08:00Z") == datetime(2026, 5, 1, 8, tzinfo=UTC)
    assert ago is not None
    assert timedelta(hours=2) <= datetime.now(UTC) - ago < timedelta(hours=2, minutes=1)


@pytest.mark.parametrize("text", ["yesterday", "5x", "2026-13-01"])
def test_anything_else_is_no_moment(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        moments.parse(text)


def test_changing_the_ref_keeps_the_repository_and_its_stored_credential() -> None:
    before = Source(
        git=GitSource(repository_url="https://h/r", ref="v1", has_credential=True), project_root="net"
    )

    after = sources.changed(before, None, "v2", None, None)

    assert after is not None
    assert (after.git.repository_url, after.git.ref, after.project_root) == ("https://h/r", "v2", "net")
    assert not after.git.HasField("credential")


def test_a_ref_for_uploaded_files_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="uploaded"):
        sources.changed(sources.new(None, None, None, None), None, "v2", None, None)


def test_a_source_that_is_not_mentioned_stays() -> None:
    assert sources.changed(Source(), None, None, None, None) is None
