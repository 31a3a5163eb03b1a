"""A server that fails on purpose, by the name of the tool that is called: ``faulty.py stdio | tcp PORT | unix PATH |
http PORT | http2 PORT``. Standard library only, and h2 for the last; a thread for each connection."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

MODERN = "2026-07-28"
Reply = Callable[[bytes, bool], None]  # (an answer, whether only half of it leaves)


def die() -> None:
    time.sleep(0.02)  # What was written leaves first, wherever the kernel keeps it.
    os.kill(os.getpid(), signal.SIGKILL)


def answer(id: Any, text: str) -> bytes:
    result = {"resultType": "complete", "content": [{"type": "text", "text": text}]}
    return json.dumps({"jsonrpc": "2.0", "id": id, "result": result}).encode()


class Faults:
    """What is answered, on whatever connection."""

    def __init__(self) -> None:
        self.held: list[tuple[Any, str, Reply]] = []

    def handle(self, data: bytes, reply: Reply) -> None:
        message = json.loads(data)
        if message.get("method") == "server/discover":
            found = {"resultType": "complete", "supportedVersions": [MODERN], "capabilities": {"tools": {}}}
            reply(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": found}).encode(), False)
        elif message.get("method") == "tools/call":
            self.call(message["id"], message["params"]["name"], reply)
        elif "id" not in message:
            reply(b"", False)

    def call(self, id: Any, name: str, reply: Reply) -> None:
        if name == "sent":
            die()
        elif name == "half":
            reply(answer(id, name), True)
            die()
        elif name == "answered":
            reply(answer(id, name), False)
            die()
        elif name == "stalled":
            pass
        elif name == "garbage":
            reply(b"<html>It works!</html>", False)
        elif name == "wrong id":
            reply(answer(4711, name), False)
        elif name.startswith("swapped"):
            self.held.append((id, name, reply))
            if len(self.held) == 2:
                for one in reversed(self.held):
                    one[2](answer(*one[:2]), False)
                self.held.clear()
        else:
            reply(answer(id, name), False)
            if name == "twice":
                reply(answer(id, name), False)


def serve_lines(read: Any, write: Callable[[bytes], object]) -> None:
    faults = Faults()

    def reply(data: bytes, is_half: bool) -> None:
        if data:
            write(data[: len(data) // 2] if is_half else data + b"\n")

    for line in read:
        faults.handle(line, reply)


def serve_http(made: socket.socket, faults: Faults) -> None:
    read = made.makefile("rb")

    def reply(data: bytes, is_half: bool) -> None:
        status = b"200 OK" if data else b"202 Accepted"
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(data))
        made.sendall(head + (data[: len(data) // 2] if is_half else data))

    while read.readline():
        length = 0
        while (line := read.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        faults.handle(read.read(length), reply)


def serve_http2(made: socket.socket, faults: Faults) -> None:
    import h2.config
    import h2.connection
    import h2.events

    two = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    two.initiate_connection()
    made.sendall(two.data_to_send())
    bodies: dict[int, bytes] = {}

    def reply_on(stream: int) -> Reply:
        def reply(data: bytes, is_half: bool) -> None:
            if stream in bodies:
                two.send_headers(stream, [(":status", "200" if data else "202"), ("content-type", "application/json")])
                two.send_data(stream, data[: len(data) // 2] if is_half else data, end_stream=not is_half)
                made.sendall(two.data_to_send())
            bodies.pop(stream, None)

        return reply

    while data := made.recv(65536):
        for event in two.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                bodies[event.stream_id] = b""
            elif isinstance(event, h2.events.DataReceived):
                bodies[event.stream_id] += event.data
                two.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                faults.handle(bodies[event.stream_id], reply_on(event.stream_id))
            elif isinstance(event, h2.events.StreamReset):
                bodies.pop(event.stream_id, None)
        made.sendall(two.data_to_send())


def serve(kind: str, made: socket.socket, faults: Faults) -> None:
    try:
        if kind == "http":
            serve_http(made, faults)
        elif kind == "http2":
            serve_http2(made, faults)
        else:
            serve_lines(made.makefile("rb"), made.sendall)
    except OSError:
        pass
    made.close()


def main(kind: str, where: str = "") -> None:
    if kind == "stdio":
        write = os.fdopen(1, "wb", buffering=0).write
        serve_lines(sys.stdin.buffer, write)
        return
    if kind == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(where)
        listener.listen()
    else:
        listener = socket.create_server(("127.0.0.1", int(where)))
    if kind == "http2":
        import h2.connection  # noqa: F401  now, and not while the first call waits
    print("listening", flush=True)
    faults = Faults()  # of all connections: answers to calls that came on two of them may be swapped
    while True:
        made, _ = listener.accept()
        threading.Thread(target=serve, args=(kind, made, faults), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
