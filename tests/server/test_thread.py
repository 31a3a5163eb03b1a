"""Functions that run in threads: whose turn it is, and what the flags change of it."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from erlmcp import ConfigurationError, Flags, Limits, Server
from erlmcp.runtime.exchange import Exchange
from erlmcp.server.plan import compile_tool

BOUND_S = 20


async def passed_through(context: Any, call_next: Any) -> Any:
    return await call_next(context)


class Shop:
    """A server with one thread, which is busy until ``gate`` is set; ``ran`` says who ran after that."""

    def __init__(self, *, middleware: bool = False, **flags: bool) -> None:
        self.gate, self.started, self.ran = threading.Event(), threading.Event(), []
        ran: list[str] = self.ran
        self.server = server = Server(
            "shop",
            limits=Limits(thread_count_max=1),
            flags=Flags(**flags),
            middleware=[passed_through] if middleware else [],
        )

        @server.tool
        def block() -> None:
            self.started.set()
            self.gate.wait(BOUND_S)

        def note(name: str) -> None:
            ran.append(name)

        for priority in ("critical", "normal", "bulk"):
            server.add_tool(note, name=priority, priority=priority)

        @server.prompt
        def ask(name: str) -> str:
            ran.append(name)
            return name

        @server.resource("note://{name}")
        def read(name: str) -> str:
            ran.append(name)
            return name

    async def fill(self, talk: Any) -> list[str]:
        """One client asks for a lot, another for a little; the order in which it is done."""
        async with talk(self.server) as crowd, talk(self.server) as lone:
            posted = [(crowd, crowd.post("tools/call", {"name": "block"}))]
            while not self.started.is_set():
                await asyncio.sleep(0)

            def tool(client: Any, priority: str, name: str) -> None:
                params = {"name": priority, "arguments": {"name": name}}
                posted.append((client, client.post("tools/call", params)))

            tool(crowd, "bulk", "bulk")
            for number in range(3):
                tool(crowd, "normal", f"crowd {number}")
            tool(lone, "normal", "lone")
            asked = lone.post("prompts/get", {"name": "ask", "arguments": {"name": "lone prompt"}})
            posted.append((lone, asked))
            posted.append((lone, lone.post("resources/read", {"uri": "note://lone-resource"})))
            tool(lone, "critical", "critical")
            for _ in range(20):
                await asyncio.sleep(0)  # with middleware a call begins in a task
            self.gate.set()
            for client, _id in posted:  # in the order in which they come
                assert "result" in await asyncio.wait_for(client.receive(), BOUND_S)
        return self.ran


@pytest.mark.parametrize("middleware", [False, True])
async def test_critical_tools_go_first_and_conversations_take_turns(talk: Any, middleware: bool) -> None:
    assert await Shop(middleware=middleware).fill(talk) == [
        "critical", "crowd 0", "lone", "crowd 1", "lone prompt", "crowd 2", "lone-resource", "bulk",
    ]  # fmt: skip


@pytest.mark.parametrize("flags", [{"priority_queues": False}, {"work_stealing": False}])
async def test_without_the_flags_functions_run_in_the_order_of_their_calls(talk: Any, flags: dict[str, bool]) -> None:
    assert await Shop(**flags).fill(talk) == [
        "bulk", "crowd 0", "crowd 1", "crowd 2", "lone", "lone prompt", "lone-resource", "critical",
    ]  # fmt: skip


async def test_the_flags_of_a_running_server_may_be_replaced(talk: Any) -> None:
    server = Server("s")
    server.add_tool(lambda: threading.current_thread().name, name="where", output_schema=None)
    names = []
    async with talk(server) as client:
        for is_on in (True, False, True):
            server.flags = Flags(work_stealing=is_on)
            names.append(await client.text("where"))
    assert names == ["erlmcp-lane-1", "erlmcp-lane_0", "erlmcp-lane-1"]


def test_a_priority_that_is_none_is_refused_with_the_name_of_the_tool() -> None:
    with pytest.raises(ConfigurationError, match=r"'note'.*critical.*'urgent'"):
        compile_tool(lambda: None, name="note", priority="urgent")  # type: ignore[arg-type]


def test_over_http_callers_with_a_credential_take_turns_whatever_their_conversation() -> None:
    session: Any = SimpleNamespace(host=SimpleNamespace(codec=None, recorder=None))

    def owner(headers: dict[str, str] | None) -> object:
        return Exchange(None, None, session, None, headers).owner  # type: ignore[arg-type]

    assert owner(None) is session
    assert owner({"host": "x"}) is session
    assert owner({"authorization": "Bearer a"}) == "Bearer a"
