"""Garbage on a socket: a clear error or a closed connection each time, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import random
import re
from typing import Any

from rawpeer import HttpPeer, initialize, legacy, modern, modern_post, post, tool

CALL = modern(1, "tools/call", tool("echo", text="x"))
MIB = 1024 * 1024


async def read_all(peer: HttpPeer) -> bytes:
    """All that the server still says, up to its closing."""
    async with asyncio.timeout(15):
        try:
            return await peer.reader.read()
        except ConnectionError:
            return b""


async def throw(victim: Any, data: bytes, *, half_close: bool = True) -> bytes:
    """What a server answers to these bytes and the end of input."""
    peer = await victim.dial()
    try:
        peer.send(data)
        if half_close:
            peer.writer.write_eof()
        return await read_all(peer)
    finally:
        await peer.close()


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


async def throw_all(victim: Any, pieces: list[bytes]) -> list[bytes]:
    found: list[bytes] = []
    for start in range(0, len(pieces), 50):
        found += await asyncio.gather(*[throw(victim, data) for data in pieces[start : start + 50]])
    return found


# ---- prefixes --------------------------------------------------------------------------------------------------------


def test_every_prefix_of_a_request_is_refused_or_closed_without_an_answer(web: Any) -> None:
    async def main() -> None:
        async with web.unharmed() as neighbour:
            for whole in (modern_post(CALL), post(initialize())):
                answers = await throw_all(web, [whole[:length] for length in range(len(whole))])
                assert {status for found in answers for status in statuses(found)} <= {400, 408}
                await web.greet(neighbour)

    asyncio.run(main())


def test_every_prefix_of_a_line_is_refused_or_closed_without_an_answer(lines: Any) -> None:
    async def main() -> None:
        async with lines.unharmed() as neighbour:
            whole = json.dumps(CALL).encode()
            assert set(await throw_all(lines, [whole[:length] for length in range(len(whole))])) == {b""}
            await lines.greet(neighbour)
            answers = await throw_all(lines, [whole[:length] + b"\n" for length in range(1, len(whole))])
            for found in answers:
                assert json.loads(found)["error"]["code"] == -32700

    asyncio.run(main())


# ---- random bytes ----------------------------------------------------------------------------------------------------


def test_random_bytes_are_refused_over_http(web: Any) -> None:
    random_bytes = random.Random(1).randbytes

    async def main() -> None:
        async with web.unharmed() as neighbour:
            pieces = [random_bytes(size) for size in range(1, 1500, 5)]
            pieces += [
                b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n" + random_bytes(size) + b"\r\n\r\n" for size in range(100)
            ]
            for found in await throw_all(web, pieces):
                assert set(statuses(found)) <= {400, 408, 415, 505}, found[:200]
            await web.greet(neighbour)

    asyncio.run(main())


def test_random_lines_are_each_answered_with_an_error_and_the_connection_goes_on(lines: Any) -> None:
    chance = random.Random(2)

    async def main() -> None:
        async with lines.unharmed() as neighbour:
            peer = await lines.dial()
            for size in range(1, 800, 3):
                line = b"x" + chance.randbytes(size).replace(b"\n", b".").replace(b"\r", b".")
                peer.send(line + b"\n")
                assert (await peer.hear())["error"]["code"] == -32700
            await lines.greet(peer)
            await lines.greet(neighbour)
            await peer.close()

    asyncio.run(main())


def test_bytes_changed_at_random_never_bring_a_server_error(web: Any) -> None:
    chance = random.Random(3)

    def changed(whole: bytes) -> bytes:
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            where = chance.randrange(len(data))
            match chance.randrange(3):
                case 0:
                    data[where] = chance.randrange(256)
                case 1:
                    del data[where : where + chance.randint(1, 9)]
                case _:
                    data[where:where] = chance.choice([b"\r\n", b"\x00", b"{", b'"', b":", b"  ", b"\xff", b"9999"])
        return bytes(data)

    async def main() -> None:
        async with web.unharmed():
            wholes = [modern_post(CALL), post(initialize()), post(legacy(1, "ping"), {"Mcp-Session-Id": "x"})]
            for found in await throw_all(web, [changed(wholes[n % 3]) for n in range(900)]):
                assert all(status < 500 or status in (501, 505) for status in statuses(found)), found[:300]
                assert b"-32603" not in found

    asyncio.run(main())


# ---- size ------------------------------------------------------------------------------------------------------------


def test_one_header_of_100_mb_is_refused_early(web: Any) -> None:
    async def main() -> None:
        async with web.unharmed() as neighbour:
            peer = await web.dial()
            answer = asyncio.ensure_future(peer.answer())
            peer.send(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
            sent = 0
            while not answer.done() and sent < 100 * MIB:
                peer.send(b"x" * 8192)
                sent += 8192
                await asyncio.sleep(0.001)
            found = await answer
            assert (found.status, b"head_bytes_max" in found.body) == (431, True)
            assert sent < MIB
            await web.greet(neighbour)
            await peer.close()

    asyncio.run(main())


async def blast(peer: HttpPeer, start: bytes, size: int) -> None:
    """Send as fast as it goes, until all is sent or the server closes."""
    peer.send(start)
    block = b"x" * MIB
    try:
        for _ in range(size // MIB):
            peer.send(block)
            async with asyncio.timeout(10):
                await peer.writer.drain()
    except (ConnectionError, TimeoutError):
        pass


async def watch(victim: Any, neighbour: Any, busy: asyncio.Future[Any]) -> int:
    """The most memory that was seen, while the neighbour is served."""
    peak = 0
    while not busy.done():
        peak = max(peak, victim.rss())
        await victim.greet(neighbour)
        await asyncio.sleep(0.002)
    await busy
    return peak


def test_100_mb_sent_at_once_are_not_kept(web: Any) -> None:
    head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    starts = [
        head + b"X-Long: ",
        b"GET /",
        head + b"Content-Length: 104857600\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\n6400000\r\n",
    ]

    async def main() -> None:
        async with web.unharmed() as neighbour:
            before = web.rss()
            for start in starts:
                peer = await web.dial()
                peak = await watch(web, neighbour, asyncio.ensure_future(blast(peer, start, 100 * MIB)))
                assert peak - before < 40 * MIB
                await peer.close()

    asyncio.run(main())


def test_a_line_of_100_mb_is_dropped_as_it_comes(lines: Any) -> None:
    async def main() -> None:
        async with lines.unharmed() as neighbour:
            before = lines.rss()
            peer = await lines.dial()
            peak = await watch(lines, neighbour, asyncio.ensure_future(blast(peer, b'{"a":"', 100 * MIB)))
            assert peak - before < 40 * MIB
            peer.send(b"\n")
            error = (await peer.hear())["error"]
            assert (error["code"], "message_bytes_max" in error["message"]) == (-32600, True)
            await lines.greet(peer)
            await peer.close()

    asyncio.run(main())


def test_bodies_of_the_largest_size_leave_nothing_behind(web: Any) -> None:
    async def main() -> None:
        async with web.unharmed(margin_mib=24):
            for _ in range(10):
                peer = await web.dial()
                message = modern(1, "tools/call", tool("echo", text="x" * 4_000_000))
                assert len((await peer.ask(modern_post(message))).body) > 8_000_000
                await peer.close()

    asyncio.run(main())


# ---- lies ------------------------------------------------------------------------------------------------------------


def test_a_body_that_is_shorter_than_it_says_ends_with_408_or_a_closed_connection(web: Any) -> None:
    async def main() -> None:
        async with web.unharmed() as neighbour:
            short = modern_post(CALL, {"Content-Length": "100000"})
            assert await throw(web, short) == b""
            assert statuses(await throw(web, short, half_close=False)) == [408]
            chunk = modern_post(CALL, {"Content-Length": None, "Transfer-Encoding": "chunked"})
            chunk = chunk.replace(b"\r\n\r\n", b"\r\n\r\nffff\r\n", 1)
            assert await throw(web, chunk) == b""
            assert statuses(await throw(web, chunk, half_close=False)) == [408]
            await web.greet(neighbour)

    asyncio.run(main())


def test_a_body_that_is_longer_than_it_says_is_cut_and_its_rest_refused(web: Any) -> None:
    async def main() -> None:
        async with web.unharmed():
            body = json.dumps(CALL).encode()
            for said in (0, 1, len(body) // 2, len(body) - 1):
                long = modern_post(CALL, {"Content-Length": str(said)})
                answers = await throw(web, long + b"\r\n\r\n", half_close=False)
                assert statuses(answers) == [400, 400], (said, answers)
                assert b'"code":-32700' in answers
            answers = await throw(web, modern_post(CALL) + b"garbage\r\n\r\n", half_close=False)
            assert statuses(answers) == [200, 400]

    asyncio.run(main())


# ---- time ------------------------------------------------------------------------------------------------------------


def test_slow_loris_clients_are_cut_off_and_the_others_served(web: Any) -> None:
    async def drip(data: bytes) -> bytes:
        peer = await web.dial()
        reading = asyncio.ensure_future(read_all(peer))
        for byte in data:
            if reading.done():
                break
            peer.send(bytes([byte]))
            await asyncio.sleep(0.05)
        found = await reading
        await peer.close()
        return found

    async def main() -> None:
        async with web.unharmed() as neighbour:
            loris = asyncio.gather(*[drip(modern_post(CALL)) for _ in range(200)])
            while not loris.done():
                await web.greet(neighbour)
                await asyncio.sleep(0.02)
            for found in await loris:
                assert statuses(found) in ([408], [])  # a reset may overtake the answer

    asyncio.run(main())


def test_connections_that_say_nothing_are_closed(web: Any) -> None:
    async def main() -> None:
        async with web.unharmed() as neighbour:
            peers = [await web.dial() for _ in range(300)]
            await web.greet(neighbour)
            assert set(await asyncio.gather(*[read_all(peer) for peer in peers])) == {b""}
            for peer in peers:
                await peer.close()

    asyncio.run(main())


def test_connections_that_are_torn_at_any_moment_leave_nothing_behind(web: Any, lines: Any) -> None:
    async def main() -> None:
        slow = modern(1, "tools/call", tool("sleep", seconds=60), progressToken=1)
        async with web.unharmed(), lines.unharmed():
            for _ in range(100):
                for victim, data in ((web, modern_post(slow)), (lines, json.dumps(slow).encode() + b"\n")):
                    peer = await victim.dial()
                    peer.send(data + data[:50])
                    await asyncio.sleep(0)
                    peer.abort()

    asyncio.run(main())
