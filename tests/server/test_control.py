"""The control socket: who may open it, what it answers, and what it bears."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from erlmcp import Flags, Server
from erlmcp.errors import ConfigurationError
from erlmcp.server.control import CONNECTION_COUNT_MAX, MESSAGE_BYTES_MAX, ControlLink

WAIT_S = 10.0


def served(path: Path, **options: Any) -> Server:
    server = Server("controlled", version="7", flags=Flags(), **options)
    server.control_path = str(path)

    @server.tool
    async def echo(text: str) -> str:
        return text

    return server


class Operator:
    """One connection to a control socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def line(self) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            found: dict[str, Any] = json.loads(await self.reader.readline())
        return found

    async def ask(self, method: str, params: Any = None, id: Any = 1) -> dict[str, Any]:
        message = {"jsonrpc": "2.0", "id": id, "method": method}
        self.writer.write(json.dumps(message if params is None else message | {"params": params}).encode() + b"\n")
        found = await self.line()
        assert found["id"] == id
        return found


@asynccontextmanager
async def operator(path: Path) -> AsyncIterator[Operator]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        yield Operator(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_it_is_there_while_the_server_runs_and_only_for_its_user(tmp_path: Path) -> None:
    path = tmp_path / "control"
    server = served(path)
    async with server.running():
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        async with operator(path) as made:
            found = await made.ask("server/info")
            assert found["result"]["server"] == {"name": "controlled", "version": "7"}
            assert found["result"]["tools"] == 1
    assert not path.exists()


async def test_a_server_that_was_not_told_so_has_none(tmp_path: Path) -> None:
    server = served(tmp_path / "control")
    server.control_path = None
    async with server.running():
        assert list(tmp_path.iterdir()) == []


async def test_flags_are_listed_and_switched_while_calls_go_on(tmp_path: Path, talk: Any) -> None:
    path = tmp_path / "control"
    server = served(path)
    async with talk(server) as client, operator(path) as made:
        assert (await made.ask("flags/list"))["result"]["flags"] == server.flag_table
        found = await made.ask("flags/set", {"async_execution": False, "batching": False})
        assert {row["name"] for row in found["result"]["flags"] if not row["value"]} == {"async_execution", "batching"}
        assert server.flags == Flags(async_execution=False, batching=False)
        assert await client.text("echo", {"text": "still here"}) == "still here"


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (b"{", -32700, "Parse error"),
        (b"\xff\xfe", -32700, "Parse error"),
        (b"[" * 100 + b"]" * 100, -32700, "depth_max"),
        (b"[]", -32600, "one JSON-RPC request a line"),
        (b"7", -32600, "one JSON-RPC request a line"),
        (b'{"jsonrpc":"1.0","id":1,"method":"flags/list"}', -32600, "JSON-RPC 2.0"),
        (b'{"jsonrpc":"2.0","id":[],"method":"flags/list"}', -32600, "JSON-RPC 2.0"),
        (b'{"jsonrpc":"2.0","id":true,"method":"flags/list"}', -32600, "JSON-RPC 2.0"),
        (b'{"jsonrpc":"2.0","id":1}', -32600, "JSON-RPC 2.0"),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}', -32601, "expected one of server/info"),
        (b'{"jsonrpc":"2.0","id":1,"method":"flags/set","params":[]}', -32602, "expected an object"),
        (b'{"jsonrpc":"2.0","id":1,"method":"flags/set","params":{"speed":true}}', -32602, "unknown flag 'speed'"),
        (b'{"jsonrpc":"2.0","id":1,"method":"flags/set","params":{"batching":"no"}}', -32602, "on or off"),
        (b"x" * (MESSAGE_BYTES_MAX + 1), -32600, f"longer than {MESSAGE_BYTES_MAX}"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else str(value),
)
async def test_a_line_that_is_no_request_is_answered_and_the_next_one_is_heard(
    tmp_path: Path, line: bytes, code: int, said: str
) -> None:
    path = tmp_path / "control"
    server = served(path)
    async with server.running(), operator(path) as made:
        made.writer.write(line + b"\n")
        found = await made.line()
        assert found["error"]["code"] == code
        assert said in found["error"]["message"]
        assert "result" in await made.ask("flags/list", id="next")
    assert server.flags == Flags()


@pytest.mark.usefixtures("quiet")
async def test_a_word_that_fails_is_an_error_answer_and_one_without_an_id_is_done_in_silence() -> None:
    said: list[bytes] = []
    done: list[str] = []

    def fail(_params: dict[str, Any]) -> Any:
        raise RuntimeError("broken")

    link = ControlLink({"fail": fail, "do": lambda _params: done.append("done")}, said.append)
    link.feed(b'{"jsonrpc":"2.0","method":"do"}\n{"jsonrpc":"2.0","id":1,"meth')
    link.feed(b'od":"fail"}\n{"jsonrpc":"2.0","id":2,"method":"do"}\n')
    assert done == ["done", "done"]
    answers = [json.loads(line) for line in said]
    assert answers[0]["error"] == {"code": -32603, "message": "Internal error: RuntimeError: broken"}
    assert answers[1] == {"jsonrpc": "2.0", "id": 2, "result": None}
    link.close()
    link.feed(b'{"jsonrpc":"2.0","id":3,"method":"do"}\n')
    assert len(said) == 2


async def test_more_connections_than_it_takes_are_turned_away(tmp_path: Path) -> None:
    path = tmp_path / "control"
    server = served(path)
    async with server.running():
        opened = [await asyncio.open_unix_connection(str(path)) for _ in range(CONNECTION_COUNT_MAX)]
        for number, (reader, writer) in enumerate(opened):
            assert "result" in await Operator(reader, writer).ask("flags/list", id=number)
        reader, writer = await asyncio.open_unix_connection(str(path))
        async with asyncio.timeout(WAIT_S):
            assert await reader.read() == b""
        for _, each in [*opened, (reader, writer)]:
            each.close()


async def test_a_path_that_is_no_socket_is_refused_and_the_lifespan_is_left_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("kept")
    left: list[str] = []

    @asynccontextmanager
    async def lifespan(_server: Server) -> AsyncIterator[None]:
        yield
        left.append("left")

    server = served(path, lifespan=lifespan)
    with pytest.raises(ConfigurationError, match="is not a socket"):
        await server.start()
    assert left == ["left"]
    assert path.read_text() == "kept"


async def test_roll_outs_are_told_and_moved_by_name_or_as_the_only_one(tmp_path: Path) -> None:
    path = tmp_path / "control"
    server = served(path)

    async def other(text: str) -> str:
        return text

    async with server.running(), operator(path) as made:
        assert (await made.ask("rollout/status"))["result"] == {"rollouts": []}
        assert "there is none" in (await made.ask("rollout/advance"))["error"]["message"]
        trial = server.candidate("echo", other)
        (found,) = (await made.ask("rollout/status"))["result"]["rollouts"]
        assert (found["name"], found["state"], found["share"]) == ("echo", "running", 0.1)
        (found,) = (await made.ask("rollout/advance"))["result"]["rollouts"]
        assert found["share"] == 0.5
        server.rollout("all", new=Flags(batching=False))
        assert "there is echo, all" in (await made.ask("rollout/back"))["error"]["message"]
        for name in (7, "none"):
            assert "which rollout" in (await made.ask("rollout/status", {"name": name}))["error"]["message"]
        (found,) = (await made.ask("rollout/back", {"name": "echo"}))["result"]["rollouts"]
        assert found["state"] == trial.policy.state == "back"
        assert found["events"][-1]["why"] == "the operator, by the control socket"
        assert len((await made.ask("rollout/status"))["result"]["rollouts"]) == 2
