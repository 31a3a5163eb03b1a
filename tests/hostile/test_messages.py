"""Messages that are well-formed bytes and wrong in every other way: a clear error each time, never a server's fault."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
import random
from typing import Any, Literal

import psutil
import pytest
from rawpeer import (
    INITIALIZED,
    LATEST,
    LEGACY,
    MODERN,
    ask_once,
    delete,
    dial,
    initialize,
    legacy,
    make_house,
    modern,
    modern_post,
    note,
    post,
    tool,
)

from erlmcp.server.serve import http

MIB = 1024 * 1024


def test_10000_malformed_initialize_requests_open_no_session(web: Any) -> None:
    """In process, to see the sessions; what the same does to memory is seen from outside."""
    good = initialize()["params"]
    changes: list[tuple[str, Any]] = [
        ("protocolVersion", None),
        ("protocolVersion", 20251125),
        ("capabilities", []),
        ("capabilities", "all"),
        ("clientInfo", None),
        ("clientInfo", {}),
        ("clientInfo", {"name": "x"}),
    ]
    wrong: list[Any] = [None, [], {}, 7, *({**good, name: value} for name, value in changes)]
    wrong += [{name: value for name, value in good.items() if name != left_out} for left_out in good]
    requests = [post(legacy(n, "initialize", params)) for n, params in enumerate(wrong)]
    requests.append(post(initialize(), {"MCP-Protocol-Version": "1.0"}))
    requests.append(post({**initialize(), "id": None}))
    requests.append(post([initialize()]))
    requests.append(post(note("initialize", good)))
    requests.append(post(b"{" + json.dumps(initialize()).encode()))

    async def send(port: int) -> None:
        async with dial(port) as peer:
            for number in range(100):
                peer.send(requests[number % len(requests)])
            for _ in range(100):
                found = await peer.answer()
                assert found.status in (200, 400)
                assert found.status == 400 or found.code in (-32602, -32600)
                assert "mcp-session-id" not in found.headers

    async def main() -> None:
        async with http(make_house().server) as listener:
            for _ in range(20):
                await asyncio.gather(*[send(listener.port) for _ in range(5)])
            assert len(listener.handler.sessions) == 0  # type: ignore[attr-defined]
            assert (await ask_once(listener.port, post(initialize()))).status == 200
            assert len(listener.handler.sessions) == 1  # type: ignore[attr-defined]
        async with web.unharmed():
            for _ in range(20):
                await asyncio.gather(*[send(web.port) for _ in range(5)])

    asyncio.run(main())


def test_sessions_that_are_opened_and_left_are_bounded_and_those_deleted_leave_nothing() -> None:
    async def main() -> None:
        house = make_house({"session_count_max": 200})
        process = psutil.Process(os.getpid())
        async with http(house.server) as listener, dial(listener.port) as peer:

            async def open_many(count: int, then_delete: bool) -> None:
                for _ in range(count):
                    found = await peer.ask(post(initialize()))
                    assert found.status == 200
                    if then_delete:
                        mine = {"Mcp-Session-Id": found.headers["mcp-session-id"]}
                        assert (await peer.ask(delete(mine))).status == 200

            await open_many(400, then_delete=False)
            before = process.memory_info().rss
            await open_many(3000, then_delete=False)
            assert len(listener.handler.sessions) == 200  # type: ignore[attr-defined]
            assert len(house.server.hub._sessions) == 200
            await open_many(2000, then_delete=True)
            assert process.memory_info().rss - before < 10 * MIB

    asyncio.run(main())


def nested(opening: str, closing: str, depth: int) -> str:
    return opening * depth + "1" + closing * depth


@pytest.mark.parametrize("depth", [10_000, 1_000_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_deep_nesting_is_refused_and_names_the_limit(
    opening: str, closing: str, depth: int, web: Any, lines: Any
) -> None:
    text = nested(opening, closing, depth)
    if len(text) > 4 * MIB:
        text = text[: 3 * MIB]
    inner = json.dumps(modern(1, "tools/call", tool("echo", text="@"))).replace('"@"', text).encode()

    async def main() -> None:
        async with web.unharmed(24), lines.unharmed(24):
            peer, line = await web.dial(), await lines.dial()
            for body in (text.encode(), inner):
                found = await peer.ask(modern_post(CALL).partition(b"Content-Length")[0] + length_of(body) + body)
                assert (found.status, found.code) in {(400, -32700), (400, -32600)}
                assert "depth_max" in found.json["error"]["message"]
                line.send(body + b"\n")
                assert "depth_max" in (await line.hear())["error"]["message"]
            await web.greet(peer)
            await lines.greet(line)
            await peer.close()
            await line.close()

    asyncio.run(main())


CALL = modern(1, "tools/call", tool("echo", text="x"))


def length_of(body: bytes) -> bytes:
    return (
        b"Content-Length: %d\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: echo\r\n\r\n"
        % len(body)
    )


def test_nesting_up_to_the_limit_is_served() -> None:
    async def main() -> None:
        house = make_house()

        @house.server.tool
        async def take(value: Any) -> str:
            return "taken"

        async with http(house.server) as listener:
            value: Any = 1
            for _ in range(120):
                value = [value]
            message = modern(1, "tools/call", tool("take", value=value))
            assert (await ask_once(listener.port, modern_post(message))).json["result"]["content"][0]["text"] == "taken"

    asyncio.run(main())


@pytest.mark.parametrize(
    "text",
    [
        '"' + "9" * 100 + '"', "9" * 5000, "1e" + "9" * 3000, "-", "01", "1.", ".5", "1e", "+1", "NaN", "Infinity",
        '"\\ud800"', '"\\udc00\\ud800"', '"\\u12"', '"\\x41"', '"\x01"', '"tab\there"', "tru", "nul", "'x'", '{"a":1,}',
        "[1,]", '{"a" 1}', '{1:2}', '{"a":1,"a":2}', "[1 2]", "/* x */ 1", "0x10", "1e400", "-1e400", "1e-400",
    ],
)  # fmt: skip
def test_values_that_are_no_json_or_hard_to_hold_bring_an_answer_in_valid_json(text: str) -> None:
    body = json.dumps(modern(1, "tools/call", tool("echo", text="@"))).replace('"@"', text).encode()

    async def main() -> None:
        async with http(make_house().server) as listener:
            head = modern_post(CALL).partition(b"Content-Length")[0]
            found = await ask_once(listener.port, head + length_of(body) + body)
            assert found.status in (200, 400)
            assert found.code != -32603
            found.body.decode()
            assert found.json["id"] in (1, None)

    asyncio.run(main())


@pytest.mark.parametrize(
    "headers",
    [
        {"Mcp-Session-Id": ""},
        {"Mcp-Session-Id": "x" * 20_000},
        {"Mcp-Session-Id": "\xff\xfe"},
        {"Mcp-Session-Id": "../../etc/passwd"},
        {"Last-Event-ID": "\xff"},
        {"MCP-Protocol-Version": "\xe5"},
        {"Accept": "," * 10_000 + "*/*"},
        {"Authorization": "Bearer \xff"},
        {"Origin": "http://\xff"},
        {"Origin": "://"},
        {"Origin": "http://localhost@evil.example.com"},
        {"Origin": "http://localhost.evil.example.com"},
        {"Host": "localhost@evil.example.com"},
        {"Host": "[::1"},
        {"Host": ""},
        {"Content-Type": "application/json" + ";" * 10_000},
        {"Mcp-Name": "=?base64??="},
        {"Mcp-Name": "=?base64?" + "A" * 20_000 + "?="},
    ],
)
def test_odd_header_values_are_refused_or_passed_over(headers: dict[str, str]) -> None:
    async def main() -> None:
        async with http(make_house().server) as listener:
            for request in (post(legacy(1, "ping"), headers), modern_post(CALL, headers)):
                found = await ask_once(listener.port, request)
                assert found.status in (200, 400, 403, 404, 415, 421, 431), (headers, found)
                if "evil" in str(headers):
                    assert found.status in (400, 403, 421)

    asyncio.run(main())


# ---- structured fuzzing ----------------------------------------------------------------------------------------------


ODD: list[Any] = [
    None, True, False, 0, -1, 1.5, 2**63, 10**30, "", "x", "\u0000", "a\nb", "é😀", [], {}, [1], [[]], {"a": {}},
    {"": ""}, "__proto__", LATEST, MODERN, "tools/call", "echo",
    ["echo"], {"name": "echo"}, "house://door", 1e300, "x" * 2000,
]  # fmt: skip
FORM = {"action": "accept", "content": {"name": "Ada"}}


def seeds(is_modern: bool) -> list[dict[str, Any]]:
    make = modern if is_modern else legacy
    requests = [
        ("tools/call", tool("echo", text="x")),
        ("tools/call", tool("take", number=2, words=["a"], table={"a": 1.5}, choice="x", either=None)),
        ("tools/list", {"cursor": "x"}),
        ("resources/read", {"uri": "house://door"}),
        ("resources/list", {}),
        ("resources/templates/list", {}),
        ("prompts/list", {}),
        ("prompts/get", {"name": "greet", "arguments": {"who": "x"}}),
        (
            "completion/complete",
            {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who", "value": "x"}},
        ),
    ]
    if is_modern:
        requests.append(("server/discover", {}))
        requests.append(("tools/call", {**tool("name"), "inputResponses": {"name": FORM}, "requestState": "e1.x.y"}))
        requests.append(
            ("subscriptions/listen", {"notifications": {"toolsListChanged": True, "resourceSubscriptions": ["a"]}})
        )
    else:
        requests += [
            ("ping", {}),
            ("logging/setLevel", {"level": "debug"}),
            ("resources/subscribe", {"uri": "house://door"}),
        ]
        requests += [("resources/unsubscribe", {"uri": "house://door"}), ("initialize", initialize()["params"])]
    found = [make(1, method, params) for method, params in requests]
    notes = [
        "notifications/cancelled",
        "notifications/initialized",
        "notifications/progress",
        "notifications/roots/list_changed",
    ]
    found += [note(method, {"requestId": 1, "progressToken": 1, "progress": 1}) for method in notes]
    return [
        *found,
        {"jsonrpc": "2.0", "id": 1, "result": FORM},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "x"}},
    ]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += places(inner, (*path, index))
    return found


def change(message: Any, chance: random.Random) -> Any:
    """The message with one to three of its values replaced, taken away or added to."""
    made = copy.deepcopy(message)
    for _ in range(chance.randint(1, 3)):
        path = chance.choice(places(made))
        if not path:
            continue
        holder = made
        for part in path[:-1]:
            holder = holder[part]
        match chance.randrange(4):
            case 0 if isinstance(holder, dict):
                del holder[path[-1]]
            case 1 if isinstance(holder, dict):
                holder[chance.choice(["a", "", "_meta", "name", "id", "params", "x" * 300])] = copy.deepcopy(
                    chance.choice(ODD)
                )
            case _:
                holder[path[-1]] = copy.deepcopy(chance.choice(ODD))
    return made


@pytest.mark.parametrize("era", ["modern", *LEGACY])
def test_changed_messages_are_answered_as_the_rules_say_and_never_with_an_internal_error(
    era: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Over the in-memory transport: every request gets exactly one answer, whatever is wrong with it."""
    chance = random.Random(era)
    house = make_house()

    @house.server.tool
    async def take(
        number: int, words: list[str], table: dict[str, float], choice: Literal["x", "y"], either: int | str | None
    ) -> dict[str, Any]:
        return {"all": [number, words, table, choice, either]}

    @house.server.prompt
    async def greet(who: str) -> str:
        return f"Greet {who}"

    @house.server.completion(prompt="greet")
    async def complete(value: str, context_arguments: Any = None) -> list[str]:
        return [value + "!"]

    async def main() -> None:
        messages = seeds(era == "modern")
        async with house.server.memory() as wire:
            if era != "modern":
                wire.send(json.dumps(initialize(era)).encode() + b"\n" + json.dumps(INITIALIZED).encode() + b"\n")
                await wire.receive()
            for number in range(2500):
                message = change(chance.choice(messages), chance)
                wire.send(json.dumps(message).encode() + b"\n")
                # A ping of ours after it: all that came before its answer belongs to the message.
                wire.send(
                    json.dumps(
                        modern(f"mark {number}", "server/discover")
                        if era == "modern"
                        else legacy(f"mark {number}", "ping")
                    ).encode()
                    + b"\n"
                )
                answers = []
                while (answer := json.loads(await wire.receive())) is not None:
                    if isinstance(answer, dict) and answer.get("id") == f"mark {number}":
                        break
                    answers.append(answer)
                assert "error" not in answer, (message, answer)
                check(message, answers)

    def check(message: Any, answers: list[Any]) -> None:
        for answer in answers:
            if isinstance(answer, dict) and "error" in answer:
                assert answer["error"]["code"] != -32603, (message, answer)
        if not isinstance(message, dict) or "method" not in message or not isinstance(message["method"], str):
            return
        id = message.get("id")
        is_request = "id" in message and isinstance(id, str | int) and not isinstance(id, bool)
        if is_request and message.get("jsonrpc") == "2.0" and message["method"] != "subscriptions/listen":
            replies = [answer for answer in answers if "method" not in answer]
            assert len(replies) == 1, (message, answers)
            assert replies[0]["id"] in (id, None)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert not caplog.records
