"""Bytes from a thread to the event loop."""

import asyncio
import threading

import pytest

from runner.byte_channel import ByteChannel
from runner.engine import MAX_READ_BYTES
from runner.errors import StreamCut


async def test_all_bytes_arrive_in_order_and_then_the_end() -> None:
    channel = ByteChannel(asyncio.get_running_loop(), capacity_bytes=1000)
    sent = [bytes([number % 256]) * (number % 700 + 1) for number in range(2000)]

    def write() -> None:
        for part in sent:
            assert channel.put(part)
        channel.end()

    thread = threading.Thread(target=write)
    thread.start()
    received = b""
    while data := await channel.read():
        received += data
    thread.join()
    assert received == b"".join(sent)
    assert await channel.read() == b""


async def test_what_is_waiting_is_read_at_once_up_to_the_most_that_one_read_gives() -> None:
    channel = ByteChannel(asyncio.get_running_loop(), capacity_bytes=10 * MAX_READ_BYTES)
    for _ in range(5):
        channel.put(b"x" * (MAX_READ_BYTES // 2))
    assert [len(await channel.read()) for _ in range(3)] == [
        MAX_READ_BYTES,
        MAX_READ_BYTES,
        MAX_READ_BYTES // 2,
    ]


async def test_a_full_channel_holds_the_thread_back_until_something_is_read() -> None:
    channel = ByteChannel(asyncio.get_running_loop(), capacity_bytes=10)
    assert channel.put(b"x" * 10)
    put = threading.Event()

    def write() -> None:
        channel.put(b"y")
        put.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert not await asyncio.to_thread(put.wait, 0.2)
    assert await channel.read() == b"x" * 10
    assert await asyncio.to_thread(put.wait, 10)
    thread.join()


async def test_a_reader_that_has_left_lets_the_thread_go() -> None:
    channel = ByteChannel(asyncio.get_running_loop(), capacity_bytes=1)
    channel.put(b"x")
    outcome: list[bool] = []
    thread = threading.Thread(target=lambda: outcome.append(channel.put(b"y")))
    thread.start()
    channel.abandon()
    await asyncio.to_thread(thread.join, 10)
    assert outcome == [False]


async def test_an_error_comes_behind_the_last_byte() -> None:
    channel = ByteChannel(asyncio.get_running_loop())
    channel.put(b"last")
    channel.end(StreamCut("cut"))
    assert await channel.read() == b"last"
    with pytest.raises(StreamCut):
        await channel.read()


async def test_a_read_that_was_cancelled_loses_nothing() -> None:
    channel = ByteChannel(asyncio.get_running_loop())
    reading = asyncio.create_task(channel.read())
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    channel.put(b"x")
    assert await channel.read() == b"x"
