import asyncio
from typing import Any, NoReturn

import pytest

from runner import connection
from runner.config import INSECURE_WORDS, TlsFiles, read_config
from runner.connection import Connection, Pause
from runner.errors import ConfigInvalid

BASE = {"INTERLOCK_POOL_TOKEN": "ptk_x.y"}


def test_pauses_double_with_jitter_up_to_a_bound_and_begin_anew_after_a_welcome() -> None:
    pause = Pause()
    pauses = [pause.next() for _ in range(12)]
    assert 0.05 <= pauses[0] <= 0.1
    assert all(15 / 2 <= each <= 15 for each in pauses[8:])
    pause.reset()
    assert pause.next() <= 0.1


@pytest.mark.parametrize(
    ("address", "is_plaintext"),
    [
        ("127.0.0.1:7443", True),
        ("localhost:7443", True),
        ("[::1]:7443", True),
        ("unix:/run/interlock.sock", True),
        ("http://127.0.0.1:7443", True),
        ("10.0.0.1:7443", False),
        ("example.com:443", False),
        ("localhost.example.com:443", False),
        ("https://127.0.0.1:7443", False),
    ],
)
def test_only_what_stays_on_this_machine_is_plaintext(address: str, is_plaintext: bool) -> None:
    config = read_config({**BASE, "INTERLOCK_ADDRESS": address})
    assert (config.tls is None) == is_plaintext
    assert "://" not in config.addresses[0]


def test_several_addresses_are_dialled_in_their_order() -> None:
    config = read_config({**BASE, "INTERLOCK_ADDRESS": "https://a.example:1, https://b.example:2"})
    assert config.addresses == ("a.example:1", "b.example:2")
    assert config.tls == TlsFiles()


def test_addresses_with_and_without_tls_are_refused_together() -> None:
    with pytest.raises(ConfigInvalid, match="with and without TLS"):
        read_config({**BASE, "INTERLOCK_ADDRESS": "localhost:1,example.com:2"})


def test_plaintext_to_another_machine_needs_the_words() -> None:
    environment = {**BASE, "INTERLOCK_ADDRESS": "http://10.0.0.1:80", "INTERLOCK_INSECURE": INSECURE_WORDS}
    assert read_config(environment).tls is None
    with pytest.raises(ConfigInvalid, match=INSECURE_WORDS):
        read_config({**environment, "INTERLOCK_INSECURE": "true"})
    with pytest.raises(ConfigInvalid, match="plaintext to another machine"):
        read_config({**environment, "INTERLOCK_INSECURE": ""})


def test_tls_to_another_machine_trusts_the_systems_roots_by_default() -> None:
    assert read_config({**BASE, "INTERLOCK_ADDRESS": "example.com:443"}).tls == TlsFiles()


def test_the_token_never_shows() -> None:
    assert "ptk_x" not in repr(read_config({**BASE, "INTERLOCK_ADDRESS": "localhost:1"}))


async def test_a_connection_that_is_cancelled_in_the_moment_in_which_its_stream_ends_dials_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A task group loses the cancellation where a task of it fails at the same time."""
    is_streaming = asyncio.Event()

    async def ends_when_cancelled(*_: object) -> NoReturn:
        is_streaming.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise connection._StreamEnded("the control plane asks to dial again") from None
        raise AssertionError

    monkeypatch.setattr(Connection, "_stream", ends_when_cancelled)
    party: Any = None
    dialling = asyncio.create_task(
        Connection(read_config({**BASE, "INTERLOCK_ADDRESS": "localhost:1"})).run(party)
    )
    await is_streaming.wait()
    dialling.cancel()
    done, _ = await asyncio.wait({dialling}, timeout=30)
    assert done == {dialling}
    assert dialling.cancelled()


async def test_a_stream_that_ends_by_itself_is_dialled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its task group has cancelled the task that it was in, and nobody has asked for an end."""
    dialled = asyncio.Queue[None]()

    async def ends_by_itself(*_: object) -> NoReturn:
        async def fails() -> NoReturn:
            raise connection._StreamEnded("it was cut")

        dialled.put_nowait(None)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fails())
        except* connection._StreamEnded:
            pass
        raise connection._StreamEnded("it was cut")

    monkeypatch.setattr(Connection, "_stream", ends_by_itself)
    party: Any = None
    dialling = asyncio.create_task(
        Connection(read_config({**BASE, "INTERLOCK_ADDRESS": "localhost:1"})).run(party)
    )
    async with asyncio.timeout(10):
        for _ in range(3):
            await dialled.get()
    dialling.cancel()
    await asyncio.wait({dialling}, timeout=30)
    assert dialling.cancelled()
