"""A poller among its connections: whose turn it is, who is spared what a neighbour does, and what it leaves behind."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import random
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rawpeer import dial, make_house, modern, modern_post, text_of, tool
from sides import MEGABYTE, Side, Stage, pattern, receive, reset, serving

from erlmcp import core
from erlmcp.server.serve import http
from erlmcp.transports import acceptor
from erlmcp.transports.acceptor import Acceptor, bind_tcp
from erlmcp.transports.listener import HttpListener
from erlmcp.transports.stream import bind_unix

pytestmark = pytest.mark.skipif(core.IMPLEMENTATION != "core", reason="the loop's own transports serve")
EVENT_COUNT_MAX = 64  # of poller.pyx


@pytest.fixture(params=["poller", "loop"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def reports() -> list[dict[str, Any]]:
    return []


def heed(reports: list[dict[str, Any]]) -> None:
    """What the loop has to report is kept, instead of failing the test."""
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context))


def descriptor_count() -> int:
    return len(os.listdir("/proc/self/fd"))


def transport_count() -> int:
    return sum(type(item).__name__ == "SocketTransport" for item in gc.get_objects())


def forget(stage: Stage) -> None:
    stage.__dict__.clear()
    gc.collect()


# -- neighbours --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["abort", "close"])
async def test_who_is_cut_by_a_neighbour_of_the_same_turn_is_given_nothing_more(
    kind: str, loop_kind: str, way: str
) -> None:
    class Cutting(Side):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            for side in self.stage.sides:
                if side is not self:
                    getattr(side.transport, way)()

    async with serving(kind, Cutting) as stage:
        pairs = [await stage.dial() for _ in range(10)]
        for client, _ in pairs:
            client.send(b"x")
        await stage.until(lambda: sum("lost" in side.calls for _, side in pairs) == 9)
        assert len(stage.order) == 1


async def test_who_aborts_within_a_read_is_lost_afterwards_and_without_an_error(kind: str, loop_kind: str) -> None:
    class Aborting(Side):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(b"never mind")
            self.transport.abort()
            assert "lost" not in self.calls

    async with serving(kind, Aborting) as stage:
        client, side = await stage.dial()
        client.send(b"x")
        await stage.until(lambda: "lost" in side.calls)
        assert (side.calls, side.error) == (["made", "data", "lost"], None)


@pytest.mark.parametrize("where", ["data_received", "eof_received"])
async def test_a_protocol_that_raises_loses_its_own_connection_alone(
    kind: str, loop_kind: str, where: str, reports: list[dict[str, Any]]
) -> None:
    class Raising(Side):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if where == "data_received" and data == b"bad":
                raise ZeroDivisionError

        def eof_received(self) -> bool:
            if where == "eof_received":
                raise ZeroDivisionError
            return super().eof_received()

    heed(reports)
    async with serving(kind, Raising) as stage:
        client, side = await stage.dial()
        others = [await stage.dial() for _ in range(5)]
        client.send(b"bad")
        if where == "eof_received":
            client.shutdown(socket.SHUT_WR)
        for other, _ in others:
            other.send(b"good")
        await stage.until(lambda: all(found.got for _, found in others) and "lost" in side.calls)
        assert isinstance(side.error, ZeroDivisionError)
        assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]
        assert reports[0]["transport"] is side.transport
        assert all(found.calls == ["made", "data"] for _, found in others)


async def test_a_writer_that_raises_when_it_is_paused_is_reported_and_goes_on(
    loop_kind: str, reports: list[dict[str, Any]]
) -> None:
    class Raising(Side):
        def pause_writing(self) -> None:
            raise ZeroDivisionError

        resume_writing = pause_writing

    heed(reports)
    async with serving("poller", Raising) as stage:
        client, side = await stage.dial()
        side.transport.write(b"x" * 8 * MEGABYTE)
        assert len(await receive(client, 8 * MEGABYTE)) == 8 * MEGABYTE
        client.send(b"on")
        await stage.until(lambda: side.got == b"on")
    assert [report["message"] for report in reports] == ["pause_writing() failed", "resume_writing() failed"]


async def test_what_ends_the_program_in_one_read_takes_no_other_read_away() -> None:
    class Ending(Side):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if data == b"bad":
                raise KeyboardInterrupt

    async with serving("poller", Ending) as stage:
        pairs = [await stage.dial() for _ in range(10)]
        for number, (client, _) in enumerate(pairs):
            client.send(b"bad" if number == 4 else b"good")
        with pytest.raises(KeyboardInterrupt):
            stage.server._poller.turn()
        assert len(stage.order) == 5
        await stage.until(lambda: all(side.got for _, side in pairs))
        assert all(side.calls == ["made", "data"] for _, side in pairs)


async def test_a_connection_that_cannot_be_made_is_reported_and_the_next_one_is(
    loop_kind: str, reports: list[dict[str, Any]]
) -> None:
    class Refusing(Side):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            if len(self.stage.sides) == 1:
                raise ZeroDivisionError

    def make(stage: Stage) -> Side:
        if not reports:
            raise ValueError("no protocol")
        return Refusing(stage)

    heed(reports)
    async with serving("poller", make) as stage:
        with socket.create_connection(("127.0.0.1", stage.port)) as unserved:
            unserved.setblocking(False)
            assert await receive(unserved, 1) == b""
        client, side = await stage.dial()
        assert await receive(client, 1) == b""
        client, side = await stage.dial()
        client.send(b"x")
        await stage.until(lambda: bool(side.got))
    assert [type(report["exception"]) for report in reports] == [ValueError, ZeroDivisionError]
    assert stage.sides[0].calls == ["made", "lost"]


# -- turns -------------------------------------------------------------------------------------------------------------


async def test_a_turn_serves_a_bounded_number_and_the_next_one_goes_on() -> None:
    async with serving("poller") as stage:
        pairs = [await stage.dial() for _ in range(EVENT_COUNT_MAX + 10)]
        for client, _ in pairs:
            client.send(b"x")
        stage.server._poller.turn()
        assert len(stage.order) == EVENT_COUNT_MAX
        stage.server._poller.turn()
        assert len(stage.order) == EVENT_COUNT_MAX + 10
        stage.server._poller.turn()
        assert [side.calls for _, side in pairs] == [["made", "data"]] * len(pairs)


async def test_who_spoke_first_is_served_first_whoever_was_there_before() -> None:
    async with serving("poller") as stage:
        pairs = [await stage.dial() for _ in range(20)]
        sides = dict(pairs)
        for seed in range(10):
            clients = random.Random(seed).sample(list(sides), len(sides))
            stage.order.clear()
            for client in clients:
                client.send(b"x")
            stage.server._poller.turn()
            assert stage.order == [sides[client] for client in clients]


async def test_who_sends_much_is_read_once_a_turn() -> None:
    async with serving("poller") as stage:
        client, side = await stage.dial()
        other, neighbour = await stage.dial()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MEGABYTE)
        sent = pattern(4 * MEGABYTE)
        writing = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(client, sent))
        for number in range(10):
            await stage.until(lambda: len(stage.order) > 0)
            stage.order.clear()
            other.send(b"x")
            stage.server._poller.turn()
            assert stage.order.count(side) <= 1
            assert len(neighbour.got) == number + 1
        await writing
        await stage.until(lambda: len(side.got) == len(sent))
        assert side.got == sent


async def test_a_protocol_that_takes_over_gets_what_comes_next(kind: str, loop_kind: str) -> None:
    class Handing(Side):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            heir = Side(self.stage)
            heir.connection_made(self.transport)
            self.transport.set_protocol(heir)

    async with serving(kind, Handing) as stage:
        client, first = await stage.dial()
        client.send(b"one")
        await stage.until(lambda: len(stage.sides) == 2)
        heir = stage.sides[1]
        assert heir.transport.get_protocol() is heir
        client.send(b"two")
        await stage.until(lambda: heir.got == b"two")
        client.close()
        await stage.until(lambda: "lost" in heir.calls)
        assert first.calls == ["made", "data"]
        first.calls.append("lost")  # by whom it was taken over


@pytest.mark.parametrize("seed", range(8))
async def test_any_order_of_writes_pauses_and_reads_keeps_the_bytes(kind: str, loop_kind: str, seed: int) -> None:
    dice, loop = random.Random(seed), asyncio.get_running_loop()
    async with serving(kind) as stage:
        client, side = await stage.dial()
        there, back = bytearray(), bytearray()
        heard, sending = bytearray(), []
        for _ in range(150):
            data = dice.randbytes(dice.choice([1, 100, 70_000, 400_000]))
            step = dice.randrange(7)
            if step == 0:
                side.transport.write(data)
                back += data
            elif step == 1:
                side.transport.writelines([data[:10], memoryview(data)[10:], b"."])
                back += data + b"."
            elif step == 2:
                there += data
                sending.append(data)
            elif step == 3:
                side.transport.pause_reading()
            elif step == 4:
                side.transport.resume_reading()
            elif step == 5:
                heard += await loop.sock_recv(client, len(data)) if len(heard) < len(back) else b""
            else:
                await asyncio.sleep(0)
        side.transport.resume_reading()
        writing = asyncio.ensure_future(loop.sock_sendall(client, b"".join(sending)))
        heard += await receive(client, len(back) - len(heard))
        await stage.until(lambda: len(side.got) == len(there))
        await writing
        assert (heard, side.got) == (back, there)


# -- what it listens on, and what it leaves ----------------------------------------------------------------------------


async def test_a_thousand_connections_come_and_go_and_leave_nothing(kind: str, loop_kind: str) -> None:
    async def come_and_go(stage: Stage) -> None:
        pairs = [await stage.dial() for _ in range(100)]
        for number, (client, side) in enumerate(pairs):
            client.send(b"%d" % number)
            side.transport.get_extra_info("socket")
        await stage.until(lambda: all(side.got for _, side in pairs))
        assert [side.got for _, side in pairs] == [b"%d" % number for number in range(100)]
        for number, (client, side) in enumerate(pairs):
            (client.close, partial(reset, client), side.transport.abort, side.transport.close)[number % 4]()
        await stage.until(lambda: all("lost" in side.calls for _, side in pairs))
        for client, _ in pairs:
            client.close()

    async with serving(kind):
        pass  # what the loop keeps for itself is there now
    before = descriptor_count()
    async with serving(kind) as stage:
        for _ in range(10):
            await come_and_go(stage)
        if kind == "poller":
            assert not stage.server._poller.live
    assert [side.calls.count("lost") for side in stage.sides] == [1] * 1000
    forget(stage)
    assert transport_count() == 0
    assert descriptor_count() == before


async def test_a_closed_server_accepts_nothing_and_keeps_its_connections(kind: str, loop_kind: str) -> None:
    before = 0
    async with serving(kind) as stage:
        client, side = await stage.dial()
        port = stage.port
        before = descriptor_count()
        stage.server.close()
        stage.server.close()
        await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        client.send(b"still")
        await stage.until(lambda: side.got == b"still")
        side.transport.write(b"here")
        assert await receive(client, 4) == b"here"
        assert descriptor_count() < before


async def test_who_calls_and_where_is_known(kind: str, loop_kind: str) -> None:
    async with serving(kind) as stage:
        client, side = await stage.dial()
        find = side.transport.get_extra_info
        assert find("peername") == client.getsockname()
        assert find("sockname") == client.getpeername()
        sock = find("socket")
        assert sock.family == socket.AF_INET
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert find("nothing") is None
        name = client.getsockname()
        client.close()
        await stage.until(lambda: "lost" in side.calls)
        if kind == "poller":
            assert find("peername") == name
            assert find("socket") is None
            assert sock.fileno() == -1


async def test_a_host_of_two_families_is_listened_on_in_both(loop_kind: str) -> None:
    from erlmcp.transports.poller import Poller

    stage = Stage()
    bound = [*await bind_tcp("127.0.0.1", 0), *await bind_tcp("::1", 0)]
    stage.server = Acceptor(Poller(asyncio.get_running_loop()), lambda: Side(stage), bound)
    assert {sock.family for sock in stage.server.sockets} == {socket.AF_INET, socket.AF_INET6}
    for number, sock in enumerate(stage.server.sockets):
        with socket.create_connection(sock.getsockname()[:2]) as client:
            await stage.until(lambda number=number: len(stage.sides) == number + 1)
            assert stage.sides[number].transport.get_extra_info("peername") == client.getsockname()
    await stage.until(lambda: all("lost" in side.calls for side in stage.sides))
    stage.server.close()


async def test_a_unix_socket_is_served(kind: str, loop_kind: str, tmp_path: Path) -> None:
    async with serving(kind, sock=bind_unix(str(tmp_path / "socket"))) as stage:
        client, side = await stage.dial()
        assert side.transport.get_extra_info("peername") in ("", None)
        sent = pattern(2 * MEGABYTE)
        side.transport.write(sent)
        assert await receive(client, len(sent)) == sent
        await asyncio.get_running_loop().sock_sendall(client, sent)
        await stage.until(lambda: side.got == sent)


async def test_an_address_in_use_is_an_error_that_names_it_and_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        before = descriptor_count()
        with pytest.raises(OSError, match=r"cannot listen on .*127\.0\.0\.1") as caught:
            await bind_tcp("127.0.0.1", other.getsockname()[1])
        assert caught.value.errno == errno.EADDRINUSE
        assert descriptor_count() == before


async def test_a_host_of_which_the_kernel_has_no_family_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "no such family")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", make)
        with pytest.raises(OSError, match=r"no address of host '127\.0\.0\.1'"):
            await bind_tcp("127.0.0.1", 0)


async def test_others_may_have_the_port_as_well_where_that_is_asked_for() -> None:
    one = await bind_tcp("127.0.0.1", 0, reuse_port=True)
    other = await bind_tcp("127.0.0.1", one[0].getsockname()[1], reuse_port=True)
    assert one[0].getsockname() == other[0].getsockname()
    for sock in (*one, *other):
        sock.close()


async def test_all_addresses_are_those_of_both_families() -> None:
    bound = await bind_tcp(None, 0)
    assert {sock.getsockname()[0] for sock in bound} <= {"0.0.0.0", "::"}
    assert len(bound) == len({sock.family for sock in bound})
    for sock in bound:
        if sock.family == socket.AF_INET6:
            assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        sock.close()


SHORT_OF_DESCRIPTORS = """
import asyncio, os, resource, socket, sys
sys.path.insert(0, {here!r})
from sides import Side, serving
from erlmcp.transports import acceptor

acceptor.RETRY_S = 0.05
told = []

async def main():
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    loop.set_exception_handler(lambda _loop, context: (told.append(context), heard.set()))
    async with serving("poller") as stage:
        first, side = await stage.dial()
        clients = [socket.socket() for _ in range(8)]
        count = len(os.listdir("/proc/self/fd")) - 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (count + 4, count + 4))
        for client in clients:
            client.setblocking(False)
            await loop.sock_connect(client, stage.server.sockets[0].getsockname())
            client.send(b"x")
        await heard.wait()
        first.send(b"still read")
        await stage.until(lambda: side.got == b"still read")
        made = len(stage.sides)
        assert 1 < made < 9, made
        for client in clients:
            client.close()
        await stage.until(lambda: len(stage.sides) == 9)
        await stage.until(lambda: all(found.got for found in stage.sides))
    assert "out of resources" in told[0]["message"], told

asyncio.run(main())
"""


def test_a_process_that_is_short_of_descriptors_accepts_again_once_it_has_some() -> None:
    program = SHORT_OF_DESCRIPTORS.format(here=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


async def test_a_server_that_waits_for_descriptors_can_be_closed(
    monkeypatch: pytest.MonkeyPatch, reports: list[dict[str, Any]]
) -> None:
    class Short:
        loop = asyncio.get_running_loop()
        calls = 0

        def accept(self, fd: int, make: object) -> None:
            self.calls += 1
            raise OSError(errno.ENFILE if self.calls == 1 else errno.EPERM, "no")

        def finish(self) -> None: ...

    heed(reports)
    monkeypatch.setattr(acceptor, "RETRY_S", 0.0)
    poller: Any = Short()
    server = Acceptor(poller, asyncio.Protocol, await bind_tcp("127.0.0.1", 0))
    with socket.create_connection(server.sockets[0].getsockname()):
        while len(reports) < 2:
            await asyncio.sleep(0)
    monkeypatch.setattr(acceptor, "RETRY_S", 100.0)
    poller.calls = 0
    with socket.create_connection(server.sockets[0].getsockname()):
        while not server._retries:
            await asyncio.sleep(0)
        server.close()
    assert not server._retries
    assert [report["exception"].errno for report in reports[:2]] == [errno.ENFILE, errno.EPERM]


def test_a_loop_that_ends_before_its_connections_warns_and_closes_them() -> None:
    from erlmcp.transports.poller import Poller

    before, stage = descriptor_count(), Stage()

    async def main() -> socket.socket:
        stage.server = Acceptor(Poller(asyncio.get_running_loop()), lambda: Side(stage), await bind_tcp("127.0.0.1", 0))
        client, side = await stage.dial()
        side.transport.get_extra_info("socket")
        for sock in stage.server.sockets:
            sock.close()
        return client

    client = asyncio.run(main())
    with pytest.warns(ResourceWarning, match="unclosed transport <SocketTransport"):
        forget(stage)
    client.close()
    gc.collect()  # The warning had the transport as its source.
    assert descriptor_count() == before


# -- the listener ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_direct", [True, False])
async def test_a_listener_takes_the_poller_or_the_loop(
    loop_kind: str, is_direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HttpListener, "is_direct", is_direct)
    async with http(make_house().server) as listener, dial(listener.port) as peer:
        assert isinstance(listener._server, Acceptor) is is_direct
        call = modern(1, "tools/call", tool("echo", text="hello"))
        peer.send(modern_post(call) * 3)
        assert [text_of((await peer.answer()).json) for _ in range(3)] == ["hello"] * 3
        large = modern(2, "tools/call", tool("big", size=3 * MEGABYTE))
        peer.send(modern_post(large))
        assert len(text_of((await peer.answer()).json)) == 3 * MEGABYTE
