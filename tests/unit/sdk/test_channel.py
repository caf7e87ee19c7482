"""Addresses, and where plaintext may go."""

import asyncio
from pathlib import Path

import pytest

import interlock
from interlock import address
from interlock.errors import Misconfigured
from interlock.retry import Retry


@pytest.mark.parametrize(
    "text", ["127.0.0.1:1", "[::1]:1", "localhost:1", "unix:///run/x", "unix:/run/x", "127.9.9.9:1"]
)
def test_an_address_on_this_machine_is_local(text: str) -> None:
    assert address.parse(text).is_local


@pytest.mark.parametrize(
    "text", ["10.0.0.1:1", "example.com:443", "[2001:db8::1]:1", "localhost.example.com:1"]
)
def test_any_other_address_is_not(text: str) -> None:
    assert not address.parse(text).is_local


@pytest.mark.parametrize(
    "text",
    ["", "host", "host:", ":1", "host:x", "host:0", "host:65536", "http://h:1", "unix://x", "host:\uff11"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match="address"):
        address.parse(text)


async def first_bytes(*, insecure: bool) -> bytes:
    """What a client says first to a server, before that answers."""
    said: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not said.done():
            said.set_result(await reader.read(3))
        writer.close()

    listener = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, interlock.connect(f"127.0.0.1:{port}", token="t", insecure=insecure) as client:
        call = asyncio.create_task(client.identity.get_caller())
        try:
            return await asyncio.wait_for(said, 10)
        finally:
            call.cancel()


async def test_nothing_goes_to_another_machine_in_plaintext(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.address._is_loopback", lambda _: False)

    assert (await first_bytes(insecure=False)).startswith(b"\x16\x03")  # a TLS handshake


async def test_plaintext_to_another_machine_is_possible_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.address._is_loopback", lambda _: False)

    assert await first_bytes(insecure=True) == b"PRI"  # HTTP/2's preface


async def test_insecure_and_tls_exclude_each_other() -> None:
    with pytest.raises(Misconfigured, match="exclude each other"):
        interlock.connect("example.com:443", token="t", insecure=True, tls=interlock.Tls(server_name="x"))


async def test_half_a_client_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="both"):
        interlock.connect("example.com:443", token="t", tls=interlock.Tls(certificate_file=tmp_path / "c"))


async def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"ca\.pem: No such file"):
        interlock.connect("example.com:443", token="t", tls=interlock.Tls(ca_file=tmp_path / "ca.pem"))


@pytest.mark.parametrize("api_key", ["xyz_1", ".xyz", "xyz_1."])
async def test_an_api_key_of_another_form_is_refused_without_showing_it(api_key: str) -> None:
    with pytest.raises(Misconfigured, match=r"ID\.SECRET") as caught:
        interlock.connect("127.0.0.1:1", api_key=api_key)
    assert api_key not in str(caught.value)


async def test_a_token_and_an_api_key_exclude_each_other() -> None:
    with pytest.raises(Misconfigured, match="not both"):
        interlock.connect("127.0.0.1:1", token="t", api_key="key_1.s")


def test_waits_grow_to_their_bound_and_vary() -> None:
    waits = Retry(first_wait_s=1, longest_wait_s=4, give_up_after_s=60).waits()

    first = [next(waits) for _ in range(6)]

    for wait_s, whole_s in zip(first, [1, 2, 4, 4, 4, 4], strict=True):
        assert whole_s / 2 <= wait_s <= whole_s


def test_no_patience_means_no_wait() -> None:
    assert list(Retry(give_up_after_s=0).waits()) == []
