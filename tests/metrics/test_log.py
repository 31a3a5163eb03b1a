"""Logs: the forms, the request in each record, masks, repeats; and that no record can forge another one."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from erlmcp import Context, Server
from erlmcp.metrics import log
from erlmcp.metrics.log import JsonFormatter, LineFormatter, Repeats, masked, setup
from erlmcp.server.observe import tell_requests

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
META = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The records of the logger "shop" and of erlmcp so far, from JSON."""
    monkeypatch.setattr(log, "request_of", log.request_of)
    tell_requests()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    loggers = [logging.getLogger(name) for name in ("shop", "erlmcp")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel("INFO")
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    for logger in loggers:
        logger.removeHandler(handler)
        logger.setLevel("NOTSET")


def make_server() -> Server:
    server = Server("logs")
    shop = logging.getLogger("shop")

    @server.tool
    async def at_once(ctx: Context) -> str:
        shop.info("at once")
        return "x"

    @server.tool
    async def the_short_way() -> str:
        shop.info("the short way")
        return "x"

    @server.tool
    async def after_a_wait() -> str:
        await asyncio.sleep(0)
        shop.info("after a wait")
        return "x"

    @server.tool
    def in_a_thread() -> str:
        shop.info("in a thread")
        return "x"

    @server.tool
    async def breaks() -> str:
        raise ValueError("password=hunter2hunter2")

    return server


@pytest.mark.parametrize("tool", ["at_once", "the_short_way", "after_a_wait", "in_a_thread"])
@pytest.mark.parametrize("meta", [META, None])
async def test_a_record_tells_its_request_and_its_trace(
    said: Callable[[], Any], talk: Any, tool: str, meta: dict[str, str] | None
) -> None:
    async with talk(make_server()) as client:
        await client.call(tool, id="the first", meta=meta)  # whose _meta is judged the general way
        await client.call(tool, id=f"id of {tool}", meta=meta)
        logging.getLogger("shop").info("outside")
    first, inside, outside = said()
    assert first["request"] == "the first"
    assert (inside["message"], inside["request"]) == (tool.replace("_", " "), f"id of {tool}")
    assert inside.get("trace") == (TRACE if meta else None)
    assert "request" not in outside


async def test_the_record_of_a_broken_tool_tells_its_request_and_no_secret(said: Callable[[], Any], talk: Any) -> None:
    async with talk(make_server()) as client:
        await client.call("breaks", id=5, meta=META)
    (record,) = said()
    assert (record["logger"], record["message"], record["request"]) == ("erlmcp.server", "tool breaks failed", "5")
    assert (record["trace"], record["method"]) == (TRACE, "tools/call")
    assert "ValueError: password=***" in record["exception"]


async def test_requests_that_overlap_are_told_apart(said: Callable[[], Any], talk: Any) -> None:
    async with talk(make_server()) as client:
        ids = [client.post("tools/call", {"name": "after_a_wait", "arguments": {}}) for _ in range(5)]
        for id in ids:
            await client.answer(id)
    assert [record["request"] for record in said()] == [str(id) for id in ids]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
        ("authorization=Basic dXNlcjpwYXNz", "authorization=Basic ***"),
        ("sent bearer 0123456789abcdef", "sent bearer ***"),
        ("Mcp-Session-Id: 1868a90c-7f", "Mcp-Session-Id: ***"),
        ("{'api_key': 'abc', 'n': 1}", "{'api_key': '***', 'n': 1}"),
        ('{"access_token":"a","x":2}', '{"access_token":"***","x":2}'),
        ("GET /metrics?token=abc&x=1", "GET /metrics?token=***&x=1"),
        ("postgres://user:pa55@db/x", "postgres://user:***@db/x"),
        ("the key sk-abcdefghijklmnopqrst is", "the key *** is"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "***"),
        ("password = hunter2, user = x", "password = ***, user = x"),
        ("nothing to hide: tokens are counted, 5 passwords", "nothing to hide: tokens are counted, 5 passwords"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, clean: str) -> None:
    assert masked(text) == clean


def record_of(text: str, *arguments: object, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    return logging.getLogger("shop").makeRecord("shop", level, "f", 1, text, arguments, None, extra=extra)


def test_a_json_record_keeps_what_extra_gave_and_masks_it() -> None:
    found = json.loads(
        JsonFormatter().format(
            record_of("a %s", "b", order=5, token="t", note="password=x", thing=[1], big="y" * 99999)
        )
    )
    assert found["message"] == "a b"
    assert (found["level"], found["logger"]) == ("info", "shop")
    assert (found["order"], found["token"], found["note"], found["thing"]) == (5, "***", "password=***", "[1]")
    assert len(found["big"]) == 10_000
    assert found["time"].endswith("Z")


def test_no_record_can_forge_another_one() -> None:
    evil = "x\n2026-01-01 00:00:00,000 INFO    shop: paid\r\n"
    assert len(JsonFormatter().format(record_of("%s", evil)).splitlines()) == 1
    assert len(LineFormatter().format(record_of("%s", evil)).splitlines()) == 1


def test_a_traceback_is_kept_in_both_forms() -> None:
    try:
        raise KeyError("gone")
    except KeyError:
        record = logging.getLogger("shop").makeRecord("shop", 40, "f", 1, "bad", (), sys.exc_info())
    assert "KeyError: 'gone'" in json.loads(JsonFormatter().format(record))["exception"]
    assert "KeyError: 'gone'" in LineFormatter().format(record)


def test_repeats_are_left_out_and_counted() -> None:
    now = 0.0
    repeats = Repeats(3, 10.0, lambda: now)
    passed = [repeats.filter(record_of("order %s failed", number)) for number in range(10)]
    assert passed == [True] * 3 + [False] * 7
    assert repeats.filter(record_of("another"))
    assert repeats.filter(record_of("order %s failed", 1, level=logging.WARNING))
    assert all(repeats.filter(record_of("the end", level=logging.CRITICAL)) for _ in range(9))
    now = 11.0
    after = record_of("order %s failed", 99)
    assert repeats.filter(after)
    assert after.getMessage() == "order 99 failed (7 more like this in 11 s)"


def test_kinds_of_records_are_bounded() -> None:
    repeats = Repeats(1, 10.0, lambda: 0.0)
    for number in range(5000):
        repeats.filter(record_of("a" * (number % 1500) + "b"))
    assert len(repeats._kinds) <= log.KINDS_MAX


def test_set_up_it_writes_to_the_stream_in_the_form_asked_for() -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        setup("warning", "json", stream)
        logging.getLogger("shop").warning("one")
        logging.getLogger("shop").info("nothing")
        setup("info", "text", stream)
        logging.getLogger("shop").info("two")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    first, second = stream.getvalue().splitlines()
    assert json.loads(first)["message"] == "one"
    assert second.endswith("INFO    shop: two")
