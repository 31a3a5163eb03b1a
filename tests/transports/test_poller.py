"""A transport of the poller keeps asyncio's contract: the same tests for it and for the loop's own."""

from __future__ import annotations

import asyncio
import socket

import pytest
from sides import MEGABYTE, Side, pattern, receive, reset, serving

from erlmcp import core

pytestmark = pytest.mark.skipif(core.IMPLEMENTATION != "core", reason="the loop's own transports serve")


@pytest.fixture(params=["poller", "loop"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


# -- what comes --------------------------------------------------------------------------------------------------------


async def test_what_comes_is_handed_over_and_the_end_is_told_once(kind: str, loop_kind: str) -> None:
    async with serving(kind) as stage:
        client, side = await stage.dial()
        client.send(b"hello")
        await stage.until(lambda: side.got == b"hello")
        side.transport.write(b"there")
        assert await receive(client, 5) == b"there"
        client.close()
        await stage.until(lambda: "lost" in side.calls)
    assert side.calls == ["made", "data", "eof", "lost"]
    assert side.error is None


async def test_a_reset_is_an_error(kind: str, loop_kind: str) -> None:
    async with serving(kind) as stage:
        client, side = await stage.dial()
        reset(client)
        await stage.until(lambda: "lost" in side.calls)
    assert isinstance(side.error, ConnectionResetError)
    assert side.calls == ["made", "lost"]


async def test_what_came_before_the_end_is_read_before_it(kind: str, loop_kind: str) -> None:
    async with serving(kind) as stage:
        for _ in range(50):
            client, side = await stage.dial()
            client.send(b"all of it")
            client.close()
            await stage.until(lambda side=side: "lost" in side.calls)
            assert (side.got, side.calls[-2:]) == (b"all of it", ["eof", "lost"])


async def test_who_keeps_it_open_writes_on_after_the_end(kind: str, loop_kind: str) -> None:
    class Keeping(Side):
        keeps_open = True

    async with serving(kind, Keeping) as stage:
        client, side = await stage.dial()
        client.shutdown(socket.SHUT_WR)
        await stage.until(lambda: "eof" in side.calls)
        assert not side.transport.is_closing()
        answer = pattern(3 * MEGABYTE)
        side.transport.write(answer)
        side.transport.close()
        assert await receive(client, len(answer) + 1) == answer
        client.close()
    assert side.calls.count("eof") == 1


async def test_a_reset_after_the_end_is_heard_though_nothing_is_read_any_more(loop_kind: str) -> None:
    class Keeping(Side):
        keeps_open = True

    async with serving("poller", Keeping) as stage:
        client, side = await stage.dial()
        client.shutdown(socket.SHUT_WR)
        await stage.until(lambda: "eof" in side.calls)
        reset(client)
        await stage.until(lambda: "lost" in side.calls)
    assert isinstance(side.error, OSError)


async def test_several_megabytes_arrive_whole(kind: str, loop_kind: str) -> None:
    async with serving(kind) as stage:
        client, side = await stage.dial()
        sent = pattern(5 * MEGABYTE)
        await asyncio.get_running_loop().sock_sendall(client, sent)
        await stage.until(lambda: len(side.got) == len(sent))
        assert side.got == sent


async def test_who_does_not_read_gets_nothing_and_then_all(kind: str, loop_kind: str) -> None:
    async with serving(kind) as stage:
        client, side = await stage.dial()
        other, neighbour = await stage.dial()
        side.transport.pause_reading()
        side.transport.pause_reading()
        assert not side.transport.is_reading()
        sent = pattern(MEGABYTE)
        writing = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(client, sent))
        for number in range(20):
            other.send(b"x")
            await stage.until(lambda number=number: len(neighbour.got) == number + 1)
        assert not side.got
        side.transport.resume_reading()
        side.transport.resume_reading()
        assert side.transport.is_reading()
        await stage.until(lambda: len(side.got) == len(sent))
        await writing
        assert side.got == sent


async def test_an_end_that_came_while_nobody_read_is_told_afterwards(kind: str, loop_kind: str) -> None:
    async with serving(kind) as stage:
        client, side = await stage.dial()
        other, neighbour = await stage.dial()
        side.transport.pause_reading()
        client.send(b"last words")
        client.close()
        other.send(b"x")
        await stage.until(lambda: bool(neighbour.got))
        assert side.calls == ["made"]
        side.transport.resume_reading()
        await stage.until(lambda: "lost" in side.calls)
        assert side.got == b"last words"


async def test_who_stops_reading_within_a_read_is_given_no_more(kind: str, loop_kind: str) -> None:
    class Pausing(Side):
        def data_received(self, data: bytes) -> None:
            self.transport.pause_reading()
            super().data_received(data)

    async with serving(kind, Pausing) as stage:
        client, side = await stage.dial()
        writing = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(client, pattern(2 * MEGABYTE)))
        reads = 0
        while len(side.got) < 2 * MEGABYTE:
            reads += 1
            await stage.until(lambda reads=reads: side.calls.count("data") == reads)
            for _ in range(3):
                await asyncio.sleep(0)
            assert side.calls.count("data") == reads
            side.transport.resume_reading()
        await writing
        assert side.got == pattern(2 * MEGABYTE)


# -- what leaves -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_pieces", [True, False])
async def test_a_client_that_reads_slowly_holds_up_the_writer_and_gets_everything(
    kind: str, loop_kind: str, in_pieces: bool
) -> None:
    async with serving(kind) as stage:
        client, side = await stage.dial()
        sent = pattern(8 * MEGABYTE)
        if in_pieces:
            cuts = [sent[start : start + 50_000] for start in range(0, len(sent), 50_000)]
            side.transport.writelines([memoryview(cuts[0]), b"", *cuts[1:]])
            side.transport.write(b"end")
        else:
            side.transport.write(sent)
            side.transport.write(b"")
            side.transport.writelines([b"e", memoryview(b"nd")])
        assert side.transport.get_write_buffer_size() > MEGABYTE
        await stage.until(lambda: "pause" in side.calls)
        assert await receive(client, len(sent) + 3) == sent + b"end"
        await stage.until(lambda: "resume" in side.calls)
        assert side.transport.get_write_buffer_size() == 0
        assert side.calls == ["made", "pause", "resume"]
        side.transport.write(b"more")
        assert await receive(client, 4) == b"more"


async def test_the_writer_goes_on_at_the_low_mark_not_only_when_all_is_sent(loop_kind: str) -> None:
    left = []

    class Watching(Side):
        def resume_writing(self) -> None:
            left.append(self.transport.get_write_buffer_size())
            super().resume_writing()

    async with serving("poller", Watching) as stage:
        client, side = await stage.dial()
        side.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        side.transport.set_write_buffer_limits(high=6 * MEGABYTE, low=5 * MEGABYTE)
        side.transport.writelines([b"x" * MEGABYTE] * 16)
        await stage.until(lambda: "pause" in side.calls)
        while "resume" not in side.calls:
            await receive(client, 1)
        assert 0 < left[0] <= 5 * MEGABYTE


async def test_a_writer_that_is_resumed_may_write_and_close(loop_kind: str) -> None:
    class Writing(Side):
        def resume_writing(self) -> None:
            super().resume_writing()
            if not self.transport.is_closing():
                self.transport.write(b"b" * 3 * MEGABYTE)
                self.transport.close()

    async with serving("poller", Writing) as stage:
        client, side = await stage.dial()
        side.transport.write(b"a" * 8 * MEGABYTE)
        got = await receive(client, 12 * MEGABYTE)
        assert (got.count(b"a"), got.count(b"b")) == (8 * MEGABYTE, 3 * MEGABYTE)
        await stage.until(lambda: "lost" in side.calls)
        assert side.error is None


async def test_closing_lets_out_what_was_written_and_aborting_does_not(kind: str, loop_kind: str) -> None:
    async with serving(kind) as stage:
        for is_closed in (True, False):
            client, side = await stage.dial()
            side.transport.write(b"z" * 8 * MEGABYTE)
            (side.transport.close if is_closed else side.transport.abort)()
            assert side.transport.is_closing()
            side.transport.close()
            got = await receive(client, 9 * MEGABYTE)
            assert (len(got) == 8 * MEGABYTE) is is_closed
            await stage.until(lambda side=side: "lost" in side.calls)
            assert (side.calls.count("lost"), side.error) == (1, None)


async def test_a_client_that_went_is_noticed_where_something_waits_for_it(kind: str, loop_kind: str) -> None:
    async with serving(kind) as stage:
        client, side = await stage.dial()
        side.transport.pause_reading()
        side.transport.write(b"z" * 8 * MEGABYTE)
        side.transport.close()
        reset(client)
        await stage.until(lambda: "lost" in side.calls)
    assert isinstance(side.error, OSError)


async def test_a_client_that_went_is_noticed_by_the_next_write(kind: str, loop_kind: str) -> None:
    async with serving(kind) as stage:
        client, side = await stage.dial()
        side.transport.pause_reading()
        reset(client)
        side.transport.write(b"x")
        side.transport.write(b"y")
        assert "lost" not in side.calls
        await stage.until(lambda: "lost" in side.calls)
    assert isinstance(side.error, OSError)
    assert side.calls == ["made", "lost"]


async def test_nothing_follows_the_end_that_was_written(kind: str, loop_kind: str) -> None:
    async with serving(kind) as stage:
        client, side = await stage.dial()
        assert side.transport.can_write_eof()
        side.transport.write(b"z" * 4 * MEGABYTE)
        side.transport.write_eof()
        side.transport.write_eof()
        with pytest.raises(RuntimeError):
            side.transport.write(b"more")
        with pytest.raises(RuntimeError):
            side.transport.writelines([b"more"])
        assert await receive(client, 5 * MEGABYTE) == b"z" * 4 * MEGABYTE
        client.send(b"still read")
        await stage.until(lambda: side.got == b"still read")
        client.close()
        await stage.until(lambda: "lost" in side.calls)


async def test_an_end_with_nothing_before_it_is_written_at_once(kind: str, loop_kind: str) -> None:
    async with serving(kind) as stage:
        client, side = await stage.dial()
        side.transport.write_eof()
        assert await receive(client, 1) == b""


async def test_what_is_written_after_the_connection_was_lost_is_dropped(loop_kind: str) -> None:
    async with serving("poller") as stage:
        client, side = await stage.dial()
        side.transport.abort()
        side.transport.write(b"x")
        side.transport.writelines([b"x"])
        await stage.until(lambda: "lost" in side.calls)
        side.transport.write(b"x")
        side.transport.abort()
        side.transport.pause_reading()
        side.transport.resume_reading()
        assert side.transport.get_extra_info("nothing", 5) == 5
        assert await receive(client, 1) == b""


async def test_an_array_may_be_changed_once_it_was_written(loop_kind: str) -> None:
    async with serving("poller") as stage:
        client, side = await stage.dial()
        one, two = bytearray(b"1" * 4 * MEGABYTE), bytearray(b"2" * MEGABYTE)
        side.transport.write(one)
        side.transport.writelines([two, memoryview(two)])
        for array in (one, two):
            array[:] = b"x" * len(array)
        got = await receive(client, 6 * MEGABYTE)
        assert (got.count(b"1"), got.count(b"2")) == (4 * MEGABYTE, 2 * MEGABYTE)


async def test_only_bytes_are_written(kind: str, loop_kind: str) -> None:
    async with serving(kind) as stage:
        client, side = await stage.dial()
        with pytest.raises(TypeError):
            side.transport.write("text")
        with pytest.raises(TypeError):
            side.transport.writelines([5])
        side.transport.write(memoryview(b"good"))
        assert await receive(client, 4) == b"good"


async def test_bounds_of_what_waits_are_checked(kind: str, loop_kind: str) -> None:
    async with serving(kind) as stage:
        client, side = await stage.dial()
        side.transport.set_write_buffer_limits(low=10)
        assert side.transport.get_write_buffer_limits() == (10, 40)
        side.transport.set_write_buffer_limits(high=100)
        assert side.transport.get_write_buffer_limits() == (25, 100)
        side.transport.set_write_buffer_limits()
        assert side.transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        with pytest.raises(ValueError, match="low"):
            side.transport.set_write_buffer_limits(high=1, low=2)
        client.close()
