"""Guards of a server's tools: on the short way, the general way, around middleware and in threads; by every end."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from erlmcp import (
    BreakerRule,
    BulkheadRule,
    Client,
    Context,
    Guards,
    Limits,
    RateRule,
    Server,
    TimeoutRule,
    ToolError,
)
from erlmcp.errors import CallTimeoutError, ConfigurationError, McpError
from erlmcp.flags import Flags
from erlmcp.protect import rate_limit
from erlmcp.runtime.within import left_s
from erlmcp.spec.version import LATEST_LEGACY

ONCE = RateRule(0.001, burst=1)
FRAGILE = BreakerRule(failures_in_row=2, open_s=60, jitter=0)
WAYS = ("short", "context", "middleware", "thread")


class Gate(threading.Event):
    """An event that tells when somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.reached.set()
        return super().wait(timeout)


def make_server(way: str, guards: Guards, **options: Any) -> tuple[Server, dict[str, Any]]:
    """A server with the tool ``work``, which does what ``plan`` has for its ``step``, reached by one of the ways."""
    plan: dict[str, Any] = {}
    flags = options.pop("flags", None)

    async def around(ctx: Context, call_next: Any) -> Any:
        return await call_next(ctx)

    server = Server("guarded", flags=flags, middleware=[around] if way == "middleware" else [])

    def act(step: str) -> Any:
        found = plan.get(step, step)
        if isinstance(found, BaseException):
            raise found
        return found

    async def work(step: str) -> str:
        found = act(step)
        return str(await found.wait() and step if isinstance(found, asyncio.Event) else found)

    async def work_in_context(step: str, ctx: Context) -> str:
        return await work(step)

    def work_in_thread(step: str) -> str:
        found = act(step)
        return str(found.wait(30) and step if isinstance(found, threading.Event) else found)

    function: Any = {"context": work_in_context, "thread": work_in_thread}.get(way, work)
    server.tool(name="work", guards=guards, **options)(function)
    return server, plan


def step(name: str) -> dict[str, Any]:
    return {"name": "work", "arguments": {"step": name}}


@pytest.mark.parametrize("has_middleware", [False, True])
async def test_a_tool_in_a_thread_that_exits_fails_and_the_server_goes_on(talk: Any, has_middleware: bool) -> None:
    async def around(ctx: Context, call_next: Any) -> Any:
        return await call_next(ctx)

    server = Server("exits", guards=Guards(bulkhead=1), middleware=[around] if has_middleware else [])

    @server.tool
    def leave(kind: str) -> str:
        raise SystemExit if kind == "exit" else KeyboardInterrupt

    async with talk(server) as client:
        for kind in ("exit", "interrupt"):
            assert (await client.call("leave", {"kind": kind}))["isError"]
    assert server.guarding.report()["leave"]["bulkhead"]["running"] == 0


@pytest.mark.parametrize("way", WAYS)
async def test_a_rate_refuses_with_the_reason_and_when_to_come_back(talk: Any, way: str) -> None:
    server, _ = make_server(way, Guards(rate_limit=ONCE))
    async with talk(server) as client:
        assert await client.text("work", {"step": "a"}) == "a"
        error = await client.error("tools/call", step("b"))
        assert error["code"] == -32000
        assert "too many calls of work" in error["message"]
        assert error["data"]["reason"] == "rate_limited"
        assert 990_000 < error["data"]["retryAfterMs"] <= 1_000_000


@pytest.mark.parametrize("way", WAYS)
async def test_a_breaker_opens_by_failures_and_not_by_answers(talk: Any, way: str, quiet: None) -> None:
    server, plan = make_server(way, Guards(breaker=FRAGILE))
    told: list[str] = []
    server.guarding.listeners.append(lambda event: told.append(f"{event.name} {event.after}"))
    plan.update(isError=ToolError("no"), invalid=McpError(-32602, "bad"), broken=OSError())
    async with talk(server) as client:
        for _ in range(3):
            assert (await client.call("work", {"step": "isError"}))["isError"]
            assert (await client.error("tools/call", step("invalid")))["code"] == -32602
            assert (await client.call("work", {"wrong": "arguments"}))["isError"]
        assert told == []
        for _ in range(2):
            assert (await client.call("work", {"step": "broken"}))["isError"]
        error = await client.error("tools/call", step("fine"))
        assert error["data"]["reason"] == "breaker_open"
        assert told == ["work open"]
        assert server.guarding.report()["work"]["breaker"]["state"] == "open"


@pytest.mark.parametrize("way", ["context", "short", "middleware"])
async def test_a_bulkhead_bounds_the_calls_that_wait(talk: Any, way: str) -> None:
    server, plan = make_server(way, Guards(bulkhead=BulkheadRule(1, queue_max=1, wait_s=30)))
    plan["first"] = gate = asyncio.Event()
    async with talk(server) as client:
        first = client.post("tools/call", step("first"))
        second = client.post("tools/call", step("second"))
        third = client.post("tools/call", step("third"))
        refused = await client.answer(third)
        assert refused["error"]["data"]["reason"] == "bulkhead_full"
        gate.set()
        assert (await client.answer(first))["result"]["content"][0]["text"] == "first"
        assert (await client.answer(second))["result"]["content"][0]["text"] == "second"
        assert server.guarding.report()["work"]["bulkhead"]["running"] == 0


@pytest.mark.parametrize("middleware", [False, True])
async def test_a_thread_keeps_its_place_until_it_ends_though_its_call_was_given_up(talk: Any, middleware: bool) -> None:
    server, plan = make_server("thread", Guards(bulkhead=1, breaker=BreakerRule(failures_in_row=5)), timeout=30)
    if middleware:

        async def around(ctx: Context, call_next: Any) -> Any:
            return await call_next(ctx)

        server.add_middleware(around)
    plan["slow"] = gate = Gate()
    guard: Any = server.tools["work"].guard
    async with talk(server) as client:
        id = client.post("tools/call", step("slow"))
        while not gate.reached.is_set():
            await asyncio.sleep(0)
        client.expire(id)
        assert (await client.answer(id))["error"]["code"] == -32001
        await client.settle()
        assert guard.breaker.window.failures_in_row == 1
        assert (await client.error("tools/call", step("next")))["data"]["reason"] == "bulkhead_full"
        gate.set()
        while guard.bulkhead.count:
            await asyncio.sleep(0)
        assert guard.breaker.window.failures_in_row == 1
        assert guard.failure_count == 1
        assert await client.text("work", {"step": "next"}) == "next"
        assert guard.bulkhead.count == 0


@pytest.mark.parametrize("middleware", [False, True])
async def test_a_call_that_was_cancelled_before_a_thread_took_it_gives_its_place_back(
    talk: Any, middleware: bool
) -> None:
    server, plan = make_server("thread", Guards(bulkhead=2, breaker=True))
    server.limits = Limits(thread_count_max=1)
    if middleware:

        async def around(ctx: Context, call_next: Any) -> Any:
            return await call_next(ctx)

        server.add_middleware(around)
    plan["slow"] = gate = threading.Event()
    guard: Any = server.tools["work"].guard
    async with talk(server, LATEST_LEGACY) as client:
        first = client.post("tools/call", step("slow"))
        second = client.post("tools/call", step("never"))
        await client.settle()
        assert guard.bulkhead.count == 2
        client.notify("notifications/cancelled", {"requestId": second})
        await client.settle()
        assert guard.bulkhead.count == 1
        gate.set()
        await client.answer(first)
        assert (guard.bulkhead.count, guard.ok_count, guard.failure_count) == (0, 1, 0)


@pytest.mark.parametrize("way", ["short", "context", "middleware"])
async def test_a_call_that_takes_too_long_counts_as_failed_and_one_that_was_cancelled_as_nothing(
    talk: Any, way: str
) -> None:
    rule = TimeoutRule(min_s=30, start_s=30, max_s=30)
    server, plan = make_server(way, Guards(breaker=BreakerRule(failures_in_row=2), timeout=rule))
    plan["never"] = asyncio.Event()
    guard: Any = server.tools["work"].guard
    async with talk(server, LATEST_LEGACY) as client:
        id = client.post("tools/call", step("never"))
        await asyncio.sleep(0)
        client.notify("notifications/cancelled", {"requestId": id})
        await client.settle()
        assert (guard.ok_count, guard.failure_count) == (0, 0)
        for _ in range(2):
            id = client.post("tools/call", step("never"))
            await client.settle()
            client.expire(id)
            error = (await client.answer(id))["error"]
            assert error["code"] == -32001
            assert "30 s" in error["message"]
        await client.settle()
        assert (guard.expired_count, guard.breaker.state) == (2, "open")


@pytest.mark.parametrize("way", WAYS)
async def test_a_fallback_serves_who_is_refused(talk: Any, way: str) -> None:
    async def instead(step: str) -> str:
        return f"no {step}"

    server, _ = make_server(way, Guards(rate_limit=ONCE), fallback=instead)
    async with talk(server) as client:
        assert await client.text("work", {"step": "a"}) == "a"
        assert await client.text("work", {"step": "b"}) == "no b"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("flag", "guards"),
    [("rate_limit", Guards(rate_limit=ONCE)), ("circuit_breaker", Guards(breaker=BreakerRule(failures_in_row=1)))],
    ids=["rate_limit", "circuit_breaker"],
)
async def test_a_flag_lets_pass_while_it_is_off_and_is_heeded_at_run_time(
    talk: Any, quiet: None, way: str, flag: str, guards: Guards
) -> None:
    server, plan = make_server(way, guards)
    plan["broken"] = OSError()

    async def refused() -> bool:
        found = await client.ask("tools/call", step("broken"))
        return "error" in found

    async with talk(server) as client:
        assert [await refused(), await refused()] == [False, True]
        server.flags = Flags(**{flag: False})
        server.service.install()
        assert [await refused(), await refused()] == [False, False]
        server.flags = Flags()
        server.service.install()
        assert await refused()


async def test_each_tool_has_the_servers_guards_and_may_say_otherwise(talk: Any) -> None:
    total = RateRule(0.001, burst=4, per="server")
    server = Server("guarded", guards=Guards(rate_limit=(ONCE, total), breaker=True))

    @server.tool
    async def default() -> str:
        return "default"

    @server.tool(guards=Guards(rate_limit=(), breaker=False))
    async def free() -> str:
        return "free"

    assert server.tools["free"].guard is not None
    assert server.tools["free"].guard.breaker is None
    async with talk(server) as client:
        assert await client.text("default") == "default"
        assert "of default" in (await client.error("tools/call", {"name": "default"}))["message"]
        assert [await client.text("free") for _ in range(3)] == ["free"] * 3
        assert "of all tools" in (await client.error("tools/call", {"name": "free"}))["message"]


async def test_a_fixed_timeout_stands_above_the_servers_adaptive_one() -> None:
    server = Server("guarded", guards=Guards(timeout="adaptive"))
    server.tool(name="fixed", timeout=5.0)(lambda: 1)
    server.tool(name="adaptive")(lambda: 1)
    server.tool(name="own", timeout=TimeoutRule(start_s=2.0), guards=Guards(bulkhead=3))(lambda: 1)
    assert [server.tools[name].timeout_s for name in ("fixed", "adaptive", "own")] == [5.0, 30.0, 2.0]
    assert server.tools["own"].guard is not None
    assert server.tools["own"].guard.bulkhead is not None


async def test_each_caller_has_a_rate_of_its_own(talk: Any) -> None:
    server, _ = make_server("short", Guards(rate_limit=RateRule(0.001, burst=1, per="caller")))
    async with server.running(), talk(server) as one, talk(server) as two:
        assert await one.text("work", {"step": "a"}) == "a"
        error = await one.error("tools/call", step("b"))
        assert "by this caller" in error["message"]
        assert await two.text("work", {"step": "c"}) == "c"


@pytest.mark.parametrize("way", WAYS)
async def test_a_conversation_that_ended_leaves_its_rate_to_nobody_who_comes_later(talk: Any, way: str) -> None:
    server, _ = make_server(way, Guards(rate_limit=RateRule(0.001, burst=1, per="caller")))
    async with server.running():
        for _ in range(20):  # one after the other, so that the next one lies where the last one did
            async with talk(server) as client:
                assert await client.text("work", {"step": "a"}) == "a"


@pytest.mark.parametrize("way", WAYS)
async def test_the_deadline_is_handed_on_where_a_tool_has_a_timeout_of_its_own(talk: Any, way: str) -> None:
    seen: list[float | None] = []

    class Seen:
        def __str__(self) -> str:
            seen.append(left_s())
            return "seen"

    for options, most in (({"timeout": 7.0}, 7), ({"timeout": "adaptive"}, 30)):
        server, plan = make_server(way, Guards(), **options)  # type: ignore[arg-type]
        plan["look"] = Seen()
        async with talk(server) as client:
            assert await client.text("work", {"step": "look"}) == "seen"
            assert await client.text("work", {"step": "look"}) == "seen"
            server.flags = Flags(adaptive_timeouts=False)
            server.service.install()
            assert await client.text("work", {"step": "look"}) == "seen"
        first, second, off = seen
        seen.clear()
        assert first is not None
        assert second is not None
        assert most - 5 < second <= first + 1 <= most + 1
        assert off is None


async def test_a_deadline_that_was_handed_on_does_not_stay_for_the_next_call(talk: Any) -> None:
    server, _ = make_server("short", Guards(), timeout=7.0)
    seen: list[float | None] = []

    @server.tool
    async def look() -> str:
        seen.append(left_s())
        return "seen"

    async with talk(server) as client:
        for _ in range(3):
            assert await client.text("work", {"step": "a"}) == "a"
            assert await client.text("look") == "seen"
    assert seen == [None] * 3


async def test_a_client_within_a_tool_waits_no_longer_than_the_tool_has(
    talk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("erlmcp.runtime.within.MARGIN_S", 0.7)
    inner = Server("inner")

    @inner.tool
    async def stuck(ctx: Context) -> str:
        await asyncio.Event().wait()
        return "never"

    server = Server("outer")

    @server.tool(timeout=1.0)
    async def ask() -> str:
        async with Client(inner) as client:  # whose own timeout is a minute
            try:
                await client.call_tool("stuck")
            except CallTimeoutError as error:
                return f"gave up after {error.seconds > 0}"
        return "never"

    async with talk(server) as client:
        # Told by the tool, which still had the time to.
        assert await client.text("ask") == "gave up after True"


async def test_progress_extends_the_time_up_to_the_hard_maximum(talk: Any) -> None:
    rule = TimeoutRule(min_s=30, start_s=30, max_s=30, hard_max_s=40)
    server = Server("slow", guards=Guards(timeout=rule))
    gates = [asyncio.Event() for _ in range(2)]
    left: list[float] = []

    @server.tool
    async def work(ctx: Context) -> str:
        for number, gate in enumerate(gates):
            await gate.wait()
            await ctx.progress(number)
            left.append(left_s() or 0.0)
        await asyncio.Event().wait()
        return "never"

    async with talk(server) as client:
        id = client.post("tools/call", {"name": "work"}, meta={"progressToken": 1})
        await client.settle()
        exchange = client.wire._link.session.inflight[id]
        seconds, last_ns = exchange._span
        assert (seconds, 39 < (last_ns - time.monotonic_ns()) / 1e9 <= 40) == (30, True)
        exchange._timers.extend(exchange._deadline, 1000)
        gates[0].set()
        await client.settle()
        assert 29 < left[0] <= 30  # anew
        exchange._span = 30, time.monotonic_ns()
        gates[1].set()  # and with that the time is over
        assert (await client.answer(id))["error"]["code"] == -32001
    assert left[1] <= 0.0


async def test_the_client_of_the_same_process_is_guarded_too() -> None:
    server, _ = make_server("short", Guards(rate_limit=ONCE))
    async with Client(server) as client:
        assert (await client.call_tool("work", {"step": "a"})).data == "a"
        with pytest.raises(McpError) as caught:
            await client.call_tool("work", {"step": "b"})
    assert caught.value.code == -32000


def test_what_cannot_be_is_refused_at_registration() -> None:
    with pytest.raises(ConfigurationError, match="retry is for who calls"):
        Server("s", guards=Guards(retry=True))
    server = Server("s")
    for options, words in (
        ({"guards": Guards(retry=True)}, "retry is for who calls"),
        ({"guards": Guards(rate_limit=RateRule(1, per="server"))}, "is for Server"),
        ({"fallback": print}, "a fallback is for a tool with guards"),
        ({"timeout": "soon"}, "adaptive"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            server.tool(name="work", **options)(lambda: 1)  # type: ignore[call-overload]
    assert "work" not in server.tools


async def test_a_tool_with_overridden_dependencies_keeps_its_guard(talk: Any) -> None:
    server, _ = make_server("short", Guards(rate_limit=ONCE))
    async with talk(server) as client:
        with server.override_dependencies({}):
            assert await client.text("work", {"step": "a"}) == "a"
        assert "error" in await client.ask("tools/call", step("b"))


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_decorated_function_may_be_a_tool(talk: Any, is_async: bool) -> None:
    server = Server("decorated")

    async def coroutine(text: str, times: int = 2) -> str:
        return text * times

    def ordinary(text: str, times: int = 2) -> str:
        return text * times

    server.tool(name="say")(rate_limit(0.001, burst=1)(coroutine if is_async else ordinary))
    assert server.describe()["tools"][0]["inputSchema"]["required"] == ["text"]
    async with talk(server) as client:
        assert await client.text("say", {"text": "a"}) == "aa"
        error = await client.error("tools/call", {"name": "say", "arguments": {"text": "a"}})
        assert error["data"]["reason"] == "rate_limited"
