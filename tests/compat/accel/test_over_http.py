"""The same HTTP requests to the SDK's own ASGI application and to our listener: equal statuses and messages."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx2 as httpx
import pytest
from differing import excused
from stocktalk import CAPABILITIES, CLIENT, MODERN, ROOT, load, settled
from test_corpus import excuse_of, known

from erlmcp import accelerate
from erlmcp.server.serve import http

pytestmark = pytest.mark.filterwarnings("ignore")
NAMES = [f"{kind}_{about}" for kind in ("sdk", "fast") for about in ("values", "context", "told", "around")]
ASKING = ("asks", "samples", "roots", "resolved", "leads", "pings")
METHOD_NOT_FOUND = -32601  # ours names the method in its text
# Code -> the statuses of both: we answer what the app said under 200 where the revision names no other status.
STATUSES = {-32602: (400, 200)}
META = {
    ROOT + "protocolVersion": MODERN,
    ROOT + "clientCapabilities": CAPABILITIES,
    ROOT + "clientInfo": CLIENT,
}
BASE = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


@contextlib.asynccontextmanager
async def stock_client(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    if hasattr(app, "streamable_http_app"):
        asgi = app.streamable_http_app(host="127.0.0.1")
    else:
        asgi = app.http_app(path="/mcp", host_origin_protection=False)
    async with (
        asgi.router.lifespan_context(asgi),
        httpx.AsyncClient(transport=httpx.ASGITransport(asgi), base_url="http://127.0.0.1:8000") as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def our_client(app: Any, level: str) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        http(accelerate(app, level), port=0) as listener,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.port}") as client,
    ):
        yield client


def messages_of(answer: httpx.Response) -> list[Any]:
    """The JSON-RPC messages of an answer, of whichever kind."""
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        found = [line[5:].strip() for line in answer.text.split("\n") if line.startswith("data:")]
        return settled([json.loads(line) for line in found if line])
    return settled([answer.json()]) if answer.content else []


def modern(method: str, params: dict[str, Any] | None, id: int) -> tuple[dict[str, Any], dict[str, str]]:
    params = {**(params or {}), "_meta": {**META, **(params or {}).get("_meta", {})}}
    headers = {**BASE, "mcp-protocol-version": MODERN, "mcp-method": method}
    name = params.get("name", params.get("uri"))
    if method in ("tools/call", "prompts/get", "resources/read") and isinstance(name, str):
        headers["mcp-name"] = name
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}, headers


async def modern_answers(client: httpx.AsyncClient, module: Any) -> list[Any]:
    logging.disable(logging.CRITICAL)
    try:
        found = []
        for number, (method, params) in enumerate(module.REQUESTS):
            if method.startswith("notifications/"):
                continue
            body, headers = modern(method, params, number)
            if "header" in str(params):
                headers["mcp-param-region"] = "north"
            answer = await client.post("/mcp", json=body, headers=headers)
            found.append((f"{method} {json.dumps(params)[:100]}", answer.status_code, messages_of(answer)))
        return found
    finally:
        logging.disable(logging.NOTSET)


def same(name: str, era: str, stock: list[Any], ours: list[Any]) -> list[str]:
    """What differs beyond what is known to."""
    broken = []
    for (asked, status, theirs), (_, our_status, mine) in zip(stock, ours, strict=True):
        codes = [each[-1].get("error", {}).get("code") if each else None for each in (theirs, mine)]
        is_known = codes[0] == codes[1] and (status, our_status) == STATUSES.get(codes[0], (status, status))
        is_same = theirs == mine or (codes[0] == codes[1] == METHOD_NOT_FOUND)
        difference = excuse_of(name, f"0 {asked}", era)
        is_excused = difference is not None and excused(difference, theirs, mine)
        if not (is_excused or (is_same and (is_known or status == our_status))):
            broken.append(f"{asked}\n  {status} {json.dumps(theirs)[-500:]}\n  {our_status} {json.dumps(mine)[-500:]}")
    return broken


@pytest.mark.parametrize("level", ["auto", "l1"])
@pytest.mark.parametrize("name", NAMES)
async def test_requests_that_stand_alone_are_answered_as_by_its_own_server(
    name: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ERLMCP_ACCEL", raising=False)
    module = load(known(name))
    async with stock_client(module.app) as client:
        stock = await modern_answers(client, module)
    module = load(name)
    async with our_client(module.app, level) as client:
        ours = await modern_answers(client, module)
    broken = [
        each for each in same(name, MODERN, stock, ours) if "surrogate" not in each
    ]  # stocktalk's differences say why
    assert not broken, "\n".join(["", *broken])


async def sessions_answers(client: httpx.AsyncClient, module: Any) -> list[Any]:
    logging.disable(logging.CRITICAL)
    try:
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}
        opened = await client.post(
            "/mcp", json={"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}, headers=BASE
        )
        headers = {**BASE, "mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        told = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        found = [("initialize", opened.status_code, messages_of(opened))]
        found.append(("initialized", (await client.post("/mcp", json=told, headers=headers)).status_code, []))
        for number, (method, params) in enumerate(module.REQUESTS):
            if method.startswith("notifications/"):
                continue
            body = {
                "jsonrpc": "2.0",
                "id": number + 1,
                "method": method,
                **({} if params is None else {"params": params}),
            }
            answer = await client.post("/mcp", json=body, headers=headers)
            found.append((f"{method} {json.dumps(params)[:100]}", answer.status_code, messages_of(answer)))
        ended = await client.delete("/mcp", headers=headers)
        found.append(("delete", ended.status_code // 100, []))
        return found
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("level", ["auto", "l1"])
@pytest.mark.parametrize("name", NAMES)
async def test_a_session_is_answered_as_by_its_own_server(
    name: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a client that can be asked nothing, so that each request has one answer."""
    monkeypatch.delenv("ERLMCP_ACCEL", raising=False)
    module = load(known(name))
    module.REQUESTS = [each for each in module.REQUESTS if not asks(each)]
    async with stock_client(module.app) as client:
        stock = await sessions_answers(client, module)
    module = load(name)
    module.REQUESTS = [each for each in module.REQUESTS if not asks(each)]
    async with our_client(module.app, level) as client:
        ours = await sessions_answers(client, module)
    broken = [each for each in same(name, "2025-11-25", stock, ours) if "surrogate" not in each]
    assert not broken, "\n".join(["", *broken])


def asks(request: tuple[str, Any]) -> bool:
    return request[0] == "tools/call" and (request[1] or {}).get("name") in ASKING
