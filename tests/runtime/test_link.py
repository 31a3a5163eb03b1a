"""One connection's driver: how many writes its answers take."""

from __future__ import annotations

import re

import pytest

from erlmcp import Flags, Server
from erlmcp.runtime.link import Link

COUNT = 20
META = b'{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}'


def call(number: int, framing: str) -> bytes:
    params = b'{"name":"one","arguments":{},"_meta":%b}' % META
    message = b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":%b}' % (number, params)
    return message + b"\n" if framing == "newline" else b"Content-Length: %d\r\n\r\n%b" % (len(message), message)


@pytest.mark.parametrize("framing", ["newline", "content_length"])
@pytest.mark.parametrize("batching", [True, False])
async def test_a_server_answers_the_messages_of_a_read_in_one_write_or_each_in_its_own(
    batching: bool, framing: str
) -> None:
    server = Server("s", flags=Flags(batching=batching))

    @server.tool
    async def one() -> int:
        return 1

    written: list[bytes] = []
    async with server.running():
        link = Link(server, written.append, framing=framing)
        link.feed(b"".join(call(number, framing) for number in range(COUNT)))
        link.close()
    answered = [[int(id) for id in re.findall(rb'"id":(\d+)', data)] for data in written]
    assert answered == ([[*range(COUNT)]] if batching else [[number] for number in range(COUNT)])
    begins = b"{" if framing == "newline" else b"Content-Length: "
    assert all(data.startswith(begins) and data[-1:] in b"}\n" for data in written)
