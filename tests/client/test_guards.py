"""A client's guards: breaker, rate, bulkhead, adaptive timeout and retries, before a server that follows a plan."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from erlmcp import (
    BreakerRule,
    BulkheadRule,
    CallTimeoutError,
    Client,
    Context,
    Guards,
    McpError,
    RateRule,
    RefusedError,
    RetryRule,
    Server,
    TimeoutRule,
    ToolError,
)
from erlmcp.client.guarding import speaks_against
from erlmcp.errors import (
    BreakerOpenError,
    BulkheadFullError,
    ConfigurationError,
    ConnectionClosedError,
    HttpStatusError,
    InvalidAnswerError,
    InvalidParamsError,
    LimitError,
    RateLimitedError,
)
from erlmcp.flags import Flags
from erlmcp.runtime.within import within

QUICK = RetryRule(backoff_s=1e-9, attempt_max=3, reserve=100)


def make_server() -> tuple[Server, list[Any], list[str]]:
    """A server whose tools do what ``plan`` has next (an exception, an event to wait for), and say what was called."""
    server = Server("planned")
    plan: list[Any] = []
    called: list[str] = []

    async def act(name: str) -> str:
        called.append(name)
        found = plan.pop(0) if plan else name
        if isinstance(found, BaseException):
            raise found
        if isinstance(found, asyncio.Event):
            await found.wait()
        return name

    @server.tool
    async def once(ctx: Context) -> str:
        return await act("once")

    @server.tool(annotations={"idempotentHint": True})
    async def often(ctx: Context) -> str:
        return await act("often")

    return server, plan, called


async def test_a_breaker_of_the_endpoint_opens_by_trouble_and_not_by_answers() -> None:
    server, plan, called = make_server()
    told: list[str] = []
    rule = BreakerRule(failures_in_row=2, open_s=60)
    async with Client(server, guards=Guards(breaker=rule), on_breaker=lambda event: told.append(event.after)) as client:
        for error in (ToolError("isError"), ToolError("isError"), InvalidParamsError("no"), InvalidParamsError("no")):
            plan.append(error)
            with pytest.raises(ToolError if isinstance(error, ToolError) else McpError):
                await client.call_tool("once")
        plan.extend([McpError(-32603, "broken"), McpError(-32000, "busy")])
        for _ in range(2):
            with pytest.raises(McpError):
                await client.call_tool("once")
        assert len(called) == 6
        for ask in (client.call_tool("once"), client.list_tools(), client.ping()):
            with pytest.raises(BreakerOpenError):
                await ask
        assert len(called) == 6
        assert told == ["open"]
        assert client.guard is not None
        assert client.guard.breaker is not None
        client.guard.breaker.force_closed(time.monotonic_ns())
        assert (await client.call_tool("once")).data == "once"


async def test_what_may_be_made_again_is_and_what_may_not_is_not() -> None:
    server, plan, called = make_server()
    async with Client(server, guards=Guards(retry=QUICK)) as client:
        await client.list_tools()
        plan.extend([McpError(-32000, "busy", {"retryAfterMs": 1}), McpError(-32000, "busy")])
        assert (await client.call_tool("once")).data == "once"  # nobody had acted on it
        assert len(called) == 3
        plan.append(McpError(-32603, "broken"))
        with pytest.raises(McpError, match="broken"):
            await client.call_tool("often")  # not transient
        assert len(called) == 4
        plan.extend([McpError(-32000, "busy")] * 3)
        with pytest.raises(McpError, match="busy"):
            await client.call_tool("often")
        assert len(called) == 7


async def test_a_timeout_is_tried_again_where_the_tool_is_idempotent_and_in_the_time_that_the_call_has() -> None:
    server, plan, called = make_server()
    rule = TimeoutRule(min_s=0.5, start_s=0.5, max_s=0.5)
    async with Client(server, guards=Guards(retry=QUICK, timeout=rule)) as client:
        plan.append(asyncio.Event())
        with pytest.raises(CallTimeoutError):
            await client.call_tool("once")
        await client.list_tools()
        plan.append(asyncio.Event())
        assert (await client.call_tool("often")).data == "often"
        assert called == ["once", "often", "often"]
        assert client.guard is not None
        assert client.guard.expired_count == 2
        plan.append(asyncio.Event())
        with pytest.raises(CallTimeoutError, match=r"0\.01"):
            await client.call_tool("often", timeout_s=0.01)  # its own, which is over then


async def test_a_long_retry_after_is_final() -> None:
    server, plan, called = make_server()
    async with Client(server, guards=Guards(retry=QUICK)) as client:
        plan.append(McpError(-32000, "busy", {"retryAfterMs": 3_600_000}))
        with pytest.raises(McpError, match="busy"):
            await client.call_tool("once")
        assert called == ["once"]


async def test_a_rate_and_a_bulkhead_refuse_before_anything_is_sent() -> None:
    server, plan, called = make_server()
    async with Client(server, guards=Guards(rate_limit=RateRule(0.001, burst=1))) as client:
        await client.call_tool("once")
        with pytest.raises(RateLimitedError):
            await client.call_tool("once")
    assert called == ["once"]
    plan.append(gate := asyncio.Event())
    async with Client(server, guards=Guards(bulkhead=BulkheadRule(1))) as client:
        task = asyncio.create_task(client.call_tool("once"))
        while len(called) == 1:
            await asyncio.sleep(0)
        with pytest.raises(BulkheadFullError):
            await client.call_tool("once")
        gate.set()
        assert (await task).data == "once"


@pytest.mark.parametrize(
    ("flag", "given"),
    [
        ("rate_limit", {"rate_limit": RateRule(0.001, burst=1)}),
        ("circuit_breaker", {"breaker": BreakerRule(failures_in_row=1)}),
    ],
    ids=["rate_limit", "circuit_breaker"],
)
async def test_a_flag_lets_pass_while_it_is_off_and_is_heeded_at_run_time(flag: str, given: dict[str, Any]) -> None:
    server, plan, called = make_server()
    plan.extend([McpError(-32603, "broken")] * 10)
    async with Client(server, guards=Guards(**given)) as client:

        async def refused() -> bool:
            with pytest.raises(McpError) as caught:
                await client.call_tool("once")
            return isinstance(caught.value, RefusedError)

        assert [await refused(), await refused()] == [False, True]
        client.flags = Flags(**{flag: False})
        assert [await refused(), await refused()] == [False, False]
        client.flags = Flags()
        assert await refused()
    assert len(called) == 3


async def test_the_flag_of_adaptive_timeouts_leaves_the_limit_alone() -> None:
    server, plan, _ = make_server()
    rule = TimeoutRule(min_s=0.01, start_s=0.01, max_s=0.01)
    client = Client(server, guards=Guards(timeout=rule), timeout_s=0.5, flags=Flags(adaptive_timeouts=False))
    async with client:
        plan.append(asyncio.Event())
        with pytest.raises(CallTimeoutError, match=r"0\.5"):
            await client.call_tool("once")


async def test_a_client_has_no_more_time_than_what_it_is_called_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erlmcp.runtime.within.MARGIN_S", 0.7)
    server, plan, _ = make_server()

    async def ask() -> None:
        plan.append(asyncio.Event())
        await client.call_tool("once")

    async with Client(server) as client:
        with pytest.raises(CallTimeoutError) as caught:
            await within(1.0, "outer", ask, (), {})
    assert caught.value.method == "tools/call"  # the inner one, which ended first
    assert caught.value.seconds < 0.3


def test_which_errors_speak_against_an_endpoint() -> None:
    against = [
        ConnectionClosedError("lost"),
        CallTimeoutError("timeout_s", 1),
        HttpStatusError(500, "No", "u"),
        HttpStatusError(429, "No", "u"),
        InvalidAnswerError("what"),
        McpError(-32603, "broken"),
    ]
    fine = [
        HttpStatusError(404, "No", "u"),
        InvalidParamsError("no"),
        LimitError("depth_max", 1),
        ToolError("no"),
        ValueError(),
    ]
    assert all(speaks_against(each) for each in against)
    assert not any(speaks_against(each) for each in fine)


def test_a_client_has_one_rate_only() -> None:
    with pytest.raises(ConfigurationError, match="one RateRule"):
        Client("http://localhost/mcp", guards=Guards(rate_limit=RateRule(1, per="caller")))
    assert Client("http://localhost/mcp", guards=Guards()).guard is None
