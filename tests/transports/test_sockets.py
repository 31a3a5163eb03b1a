"""Raw TCP and Unix sockets: one conversation per connection, newline framing, who may open the file, bounds."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from rawpeer import (
    INITIALIZED,
    LATEST,
    House,
    LinePeer,
    ask_once,
    dial_line,
    initialize,
    legacy,
    make_house,
    modern,
    modern_post,
    note,
    process,
    text_of,
    tool,
)

from erlmcp import Context
from erlmcp.errors import ConfigurationError
from erlmcp.server.serve import http, tcp, unix
from erlmcp.transports.stream import Listener

Drive = Callable[[Any], None]
Opened = tuple[House, int | str, Listener]


@pytest.fixture(params=["tcp", "unix"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """``async with opened(house) as where`` serves it on a TCP port or on a Unix socket."""

    @asynccontextmanager
    async def serving(house: House) -> AsyncIterator[tuple[int | str, Listener]]:
        if request.param == "tcp":
            async with tcp(house.server, "127.0.0.1", 0) as listener:
                yield listener.port, listener
        else:
            path = str(tmp_path / "socket")
            async with unix(house.server, path) as listener:
                yield path, listener

    return serving


def echo(text: str, id: Any = 1) -> dict[str, Any]:
    return modern(id, "tools/call", tool("echo", text=text))


def test_each_connection_is_a_conversation_of_its_own(opened: Callable[..., Any], drive: Drive) -> None:
    async def main() -> None:
        async with opened(make_house()) as (where, listener), dial_line(where) as old, dial_line(where) as new:
            assert (await old.call(initialize()))["result"]["protocolVersion"] == LATEST
            old.say(INITIALIZED)
            assert text_of(await new.call(echo("new"))) == "new"
            assert text_of(await old.call(legacy(1, "tools/call", tool("echo", text="old")))) == "old"
            assert (await new.call(initialize()))["error"]["code"] == -32022
            assert (await old.call(echo("x")))["error"]["code"] == -32600
            assert len(listener.connections) == 2

    drive(main())


def test_many_connections_are_served_at_once(opened: Callable[..., Any], drive: Drive) -> None:
    async def talk(where: int | str, name: str) -> None:
        async with dial_line(where) as peer:
            peer.say(*[echo(f"{name}-{n}", n) for n in range(20)])
            for n in range(20):
                assert text_of(await peer.hear()) == f"{name}-{n}"

    async def main() -> None:
        async with opened(make_house()) as (where, _):
            await asyncio.gather(*[talk(where, f"peer{n}") for n in range(100)])

    drive(main())


def test_any_cut_of_the_bytes_gives_the_same_answers(opened: Callable[..., Any], drive: Drive) -> None:
    async def main() -> None:
        async with opened(make_house()) as (where, _), dial_line(where) as peer:
            whole = b"".join(json.dumps(echo(f"{n} å\n", n)).encode() + b"\r\n" for n in range(5))
            for start in range(0, len(whole), 7):
                peer.send(whole[start : start + 7])
                await asyncio.sleep(0)
            assert [text_of(await peer.hear()) for _ in range(5)] == [f"{n} å\n" for n in range(5)]

    drive(main())


def test_one_bad_connection_leaves_the_others_alone(opened: Callable[..., Any], drive: Drive) -> None:
    async def main() -> None:
        house = make_house({"message_bytes_max": 10_000})
        async with (
            opened(house) as (where, _),
            dial_line(where) as good,
            dial_line(where) as bad,
            dial_line(where) as gone,
        ):
            bad.send(b"\xff\xfe garbage\n" + b"{" * 1000 + b"\n" + b"x" * 50_000 + b"\n")
            codes = [(await bad.hear())["error"]["code"] for _ in range(3)]
            assert codes == [-32700, -32700, -32600]
            gone.say(modern(1, "tools/call", tool("wait")))
            await house.begun.wait()
            gone.abort()
            await asyncio.wait_for(house.cancelled.wait(), 10)
            assert text_of(await good.call(echo("good"))) == "good"
            assert text_of(await bad.call(echo("bad"))) == "bad"

    drive(main())


def test_a_cancelled_request_gets_no_answer(opened: Callable[..., Any], drive: Drive) -> None:
    async def main() -> None:
        house = make_house()
        async with opened(house) as (where, _), dial_line(where) as peer:
            peer.say(modern(1, "tools/call", tool("wait")))
            await house.begun.wait()
            peer.say(note("notifications/cancelled", {"requestId": 1}), echo("next", 2))
            assert (await peer.hear())["id"] == 2
            await asyncio.wait_for(house.cancelled.wait(), 10)

    drive(main())


def test_a_question_of_the_server_is_answered_on_the_same_connection(opened: Callable[..., Any], drive: Drive) -> None:
    async def main() -> None:
        async with opened(make_house()) as (where, _), dial_line(where) as peer:
            await peer.call(initialize(capabilities={"elicitation": {}}))
            question = await peer.call(legacy(1, "tools/call", tool("name")))
            assert question["method"] == "elicitation/create"
            answer = {"action": "accept", "content": {"name": "Ada"}}
            found = await peer.call({"jsonrpc": "2.0", "id": question["id"], "result": answer})
            assert (found["id"], text_of(found)) == (1, "Hello, Ada!")

    drive(main())


def test_a_connection_too_many_is_closed_and_the_others_are_served(opened: Callable[..., Any], drive: Drive) -> None:
    async def main() -> None:
        async with opened(make_house({"connection_count_max": 1})) as (where, _), dial_line(where) as one:
            assert text_of(await one.call(echo("one"))) == "one"
            async with dial_line(where) as two:
                assert await two.is_closed()
            assert text_of(await one.call(echo("still"))) == "still"

    drive(main())


def test_leaving_the_context_closes_the_connections_after_what_was_answered(
    opened: Callable[..., Any], drive: Drive
) -> None:
    async def main() -> None:
        house = make_house()
        serving = opened(house)
        where, _listener = await serving.__aenter__()
        async with dial_line(where) as peer, dial_line(where) as waits:
            waits.say(modern(1, "tools/call", tool("wait")))
            await house.begun.wait()
            assert text_of(await peer.call(echo("x"))) == "x"
            await serving.__aexit__(None, None, None)
            assert await peer.hear() is None
            assert await waits.hear() is None
            assert house.cancelled.is_set()

    drive(main())


def unsent(listener: Listener) -> int:
    return sum(c.transport.get_write_buffer_size() for c in listener.connections if c.transport is not None)


def deafen(peer: LinePeer) -> None:
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]


def test_a_client_that_does_not_read_is_not_read_from(opened: Callable[..., Any], drive: Drive) -> None:
    async def main() -> None:
        async with opened(make_house()) as (where, listener), dial_line(where) as deaf, dial_line(where) as good:
            deafen(deaf)
            deaf.say(*[modern(n, "tools/call", tool("big", size=50_000)) for n in range(5000)])
            for _ in range(30):
                await asyncio.sleep(0.005)
                assert unsent(listener) < 150_000_000
            assert text_of(await good.call(echo("good"))) == "good"
            deaf.abort()

    drive(main())


def test_a_client_that_does_not_read_what_is_sent_by_itself_is_cut_off(
    opened: Callable[..., Any], drive: Drive
) -> None:
    async def main() -> None:
        house = make_house({"outbox_bytes_max": 1_000_000})

        @house.server.tool
        async def flood(ctx: Context) -> str:
            try:
                while True:
                    await ctx.progress(1, 2, "x" * 10_000)
                    await asyncio.sleep(0)
                    assert unsent(listener) < 3_000_000
            except asyncio.CancelledError:
                house.cancelled.set()
                raise

        async with opened(house) as (where, listener), dial_line(where) as deaf, dial_line(where) as good:
            deafen(deaf)
            deaf.say(modern(1, "tools/call", tool("flood"), progressToken=1))
            await asyncio.wait_for(house.cancelled.wait(), 20)
            assert text_of(await good.call(echo("good"))) == "good"
            deaf.abort()

    drive(main())


# ---- the socket's file -----------------------------------------------------------------------------------------------


def test_only_the_user_may_open_the_socket_file_and_it_is_gone_afterwards(tmp_path: Path, drive: Drive) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        mask = os.umask(0)
        try:
            async with unix(make_house().server, str(path)):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
        finally:
            os.umask(mask)
        assert not path.exists()

    drive(main())


@pytest.mark.parametrize("kind", ["mcp", "http"])
def test_a_stale_socket_file_is_taken_over(kind: str, tmp_path: Path, drive: Drive) -> None:
    path = tmp_path / "socket"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    assert path.exists()

    async def main() -> None:
        if kind == "mcp":
            async with unix(make_house().server, str(path)), dial_line(str(path)) as peer:
                assert text_of(await peer.call(echo("x"))) == "x"
        else:
            async with http(make_house().server, None, unix=str(path)):
                assert (await ask_once(str(path), modern_post(echo("x")))).status == 200

    drive(main())


def test_a_path_in_use_is_refused_and_its_server_undisturbed(tmp_path: Path, drive: Drive) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        async with unix(make_house().server, path):
            with pytest.raises(ConfigurationError, match="another server is listening"):
                async with unix(make_house().server, path):
                    pass
            async with dial_line(path) as peer:
                assert text_of(await peer.call(echo("x"))) == "x"

    drive(main())


def test_a_file_that_is_no_socket_is_refused_and_kept(tmp_path: Path, drive: Drive) -> None:
    path = tmp_path / "letter"
    path.write_text("dear")

    async def main() -> None:
        with pytest.raises(ConfigurationError, match="not a socket"):
            async with unix(make_house().server, str(path)):
                pass

    drive(main())
    assert path.read_text() == "dear"


def test_a_port_in_use_is_an_oserror(drive: Drive) -> None:
    async def main() -> None:
        async with tcp(make_house().server, "127.0.0.1", 0) as listener:
            for serving in (tcp, http):
                with pytest.raises(OSError):
                    async with serving(make_house().server, "127.0.0.1", listener.port):
                        pass

    drive(main())


# ---- as a process ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["http", "tcp", "unix"])
def test_a_process_serves_until_it_is_told_to_stop_and_the_call_under_way_is_answered(
    kind: str, tmp_path: Path
) -> None:
    where: Any = str(tmp_path / "s")
    words = {"http": ("--port", "0"), "tcp": ("--tcp", "127.0.0.1:0"), "unix": ("--unix", where)}[kind]

    async def main() -> None:
        if kind == "http":
            found = await ask_once(where, modern_post(echo("x")))
            assert text_of(found.json) == "x"
            slow = asyncio.ensure_future(
                ask_once(where, modern_post(modern(1, "tools/call", tool("sleep", seconds=0.3))))
            )
            while not slow.done():
                await asyncio.sleep(0.1)
                server.signal()
                break
            assert text_of((await slow).json) == "slept"
        else:
            async with dial_line(where) as peer:
                assert text_of(await peer.call(echo("x"))) == "x"
                server.signal()
                assert await peer.hear() is None

    with process(tmp_path, "serve", "FILE", *words) as server:
        line = server.say_line()
        assert "serving" in line, line
        if kind != "unix":
            where = int(line.split("://")[1].split("/")[0].split()[0].rpartition(":")[2])
        asyncio.run(main())
        assert server.end() == ([], "", 0)
    assert not (tmp_path / "s").exists()
