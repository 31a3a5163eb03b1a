"""A limit, not a server: uvloop and a protocol that reads no more than it must and gives one fixed answer.

    python fixed_uvloop.py stdio | stateless PORT

Only the id is taken over from the request (it is found by its digits), as an answer without it would be no answer.
"""

from __future__ import annotations

import asyncio
import os
import sys

import uvloop

TEXT = b'"the quick brown fox"'
BLOB = b'"%s"' % (b"x" * int(os.environ.get("BENCH_BLOB_BYTES", "0")))  # beside the usual text
MORE = b',{"type":"text","text":%s}' % BLOB if len(BLOB) > 2 else b""
SAID = BLOB if MORE else TEXT
RESULT = b'"content":[{"type":"text","text":%s}%s],"structuredContent":{"result":%s}' % (TEXT, MORE, SAID)
BODY = b'{"jsonrpc":"2.0","id":1000000000,"result":{%s,"isError":false,"resultType":"complete"}}' % RESULT
ID_AT = BODY.index(b"1000000000")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
BEFORE, AFTER = BODY[:ID_AT], BODY[ID_AT + 10 :]


class Http(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = transport.writelines  # type: ignore[attr-defined]
        self.held = b""

    def data_received(self, data: bytes) -> None:
        """A load generator sends whole requests, one at a time, so an end of input is the end of a request."""
        self.held += data
        if self.held.endswith(b"}"):
            at = self.held.index(b'"id":') + 5
            self.write([HEAD + BEFORE + self.held[at : at + 10], AFTER])
            self.held = b""


class Lines(asyncio.Protocol):
    def __init__(self, write: asyncio.WriteTransport) -> None:
        self.write = write.write
        self.held = b""

    def data_received(self, data: bytes) -> None:
        *lines, self.held = (self.held + data).split(b"\n")
        answers = []
        for line in lines:
            at = line.index(b'"id":') + 5
            answers.append(BEFORE + line[at : at + 10] + AFTER + b"\n")
        self.write(b"".join(answers))

    def connection_lost(self, error: Exception | None) -> None:
        asyncio.get_running_loop().stop()


async def serve(port: int) -> None:
    listener = await asyncio.get_running_loop().create_server(Http, "127.0.0.1", port)
    await listener.serve_forever()


async def stdio() -> None:
    loop = asyncio.get_running_loop()
    write, _ = await loop.connect_write_pipe(asyncio.Protocol, sys.stdout)
    await loop.connect_read_pipe(lambda: Lines(write), sys.stdin)
    await loop.create_future()


if __name__ == "__main__":
    try:
        uvloop.run(stdio() if sys.argv[1] == "stdio" else serve(int(sys.argv[2])))
    except (RuntimeError, KeyboardInterrupt):  # the loop was stopped: the input is at its end
        pass
