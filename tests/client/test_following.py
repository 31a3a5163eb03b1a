"""Progress that is followed gives a call its time anew, up to a bound, in both eras and on each kind of way."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from ways import WAIT_S, connected

from erlmcp import CallTimeoutError, Client, ClientLimits, Context, Guards, Server, TimeoutRule
from erlmcp.client import asking, following, http, pipe
from erlmcp.runtime import within
from erlmcp.server.serve import http as serve_http

LONG = 250.0  # seconds on the loop's own clock, which these tests never wait for


class Clock:
    """In the place of the module ``time``, and of its function."""

    def __init__(self) -> None:
        self.now_ns = time.monotonic_ns()

    def monotonic_ns(self) -> int:
        return self.now_ns

    def pass_s(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (following, http, pipe, within):
        monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(asking, "monotonic_ns", made.monotonic_ns)
    return made


class Kitchen:
    """A server whose tool says that it goes on each time that it is told to."""

    def __init__(self) -> None:
        self.server = Server("kitchen")
        self.told: asyncio.Queue[bool] = asyncio.Queue()
        self.heard: asyncio.Queue[float] = asyncio.Queue()

        @self.server.tool
        async def cook(ctx: Context) -> str:
            count = 0
            while True:
                await ctx.progress(count)
                count += 1
                if not await self.told.get():
                    return "done"

    async def go_on(self) -> None:
        """One more sign of life, heard by the client."""
        self.told.put_nowait(True)
        await self.heard.get()

    def cook(self, client: Client, **options: Any) -> asyncio.Task[Any]:
        follow = lambda progress, total, message: self.heard.put_nowait(progress)  # noqa: E731
        return asyncio.ensure_future(client.call_tool("cook", on_progress=follow, **options))


@contextlib.asynccontextmanager
async def kitchen(kind: str, **options: Any) -> AsyncIterator[tuple[Kitchen, Client]]:
    made = Kitchen()
    async with contextlib.AsyncExitStack() as stack:
        target: Any = made.server
        if kind == "http":
            listener: Any = await stack.enter_async_context(serve_http(made.server))
            target = f"http://127.0.0.1:{listener.port}/mcp"
        yield made, await stack.enter_async_context(connected(target, **options))


def look(client: Client) -> None:
    """What the channel's timer does when it fires."""
    channel: Any = client._conversation.channel  # type: ignore[union-attr]
    channel._expire()


KINDS = pytest.mark.parametrize("kind", ["memory", "http"])


@KINDS
async def test_each_sign_of_life_gives_a_call_its_time_anew(kind: str, mode: str, clock: Clock) -> None:
    async with kitchen(kind, mode=mode, limits=ClientLimits(timeout_s=LONG)) as (made, client):
        call = made.cook(client)
        await made.heard.get()
        for _ in range(2):
            clock.pass_s(0.9 * LONG)
            await made.go_on()
            look(client)
        assert not call.done()
        made.told.put_nowait(False)
        assert (await asyncio.wait_for(call, WAIT_S)).data == "done"


@KINDS
async def test_silence_ends_it_and_the_server_is_told(kind: str, mode: str, clock: Clock) -> None:
    async with kitchen(kind, mode=mode, limits=ClientLimits(timeout_s_max=9 * LONG)) as (made, client):
        call = made.cook(client, timeout_s=LONG)
        await made.heard.get()
        clock.pass_s(0.9 * LONG)
        await made.go_on()
        clock.pass_s(1.01 * LONG)
        look(client)
        with pytest.raises(CallTimeoutError, match=f"timeout_s={LONG:g}"):
            await call
        while made.server.turn.load.inflight:
            await asyncio.sleep(0)


async def test_progress_extends_up_to_the_bound_and_the_error_names_it(mode: str, clock: Clock) -> None:
    limits = ClientLimits(timeout_s=LONG, timeout_s_max=2 * LONG)
    async with kitchen("memory", mode=mode, limits=limits) as (made, client):
        call = made.cook(client)
        await made.heard.get()
        for _ in range(2):
            clock.pass_s(0.9 * LONG)
            await made.go_on()
            look(client)
        assert not call.done()
        clock.pass_s(0.21 * LONG)
        look(client)
        with pytest.raises(CallTimeoutError, match=f"timeout_s_max={2 * LONG:g}"):
            await call


async def test_a_time_longer_than_the_bound_is_kept_and_not_extended(clock: Clock) -> None:
    async with kitchen("memory", limits=ClientLimits(timeout_s_max=LONG / 2)) as (made, client):
        call = made.cook(client, timeout_s=LONG)
        await made.heard.get()
        clock.pass_s(0.9 * LONG)
        await made.go_on()
        look(client)
        assert not call.done()
        clock.pass_s(0.2 * LONG)
        look(client)
        with pytest.raises(CallTimeoutError, match=f"timeout_s={LONG:g}"):
            await call


async def test_an_adaptive_timeout_has_a_bound_of_its_own(clock: Clock) -> None:
    rule = TimeoutRule(start_s=LONG, max_s=LONG, hard_max_s=1.5 * LONG)
    async with kitchen("memory", guards=Guards(timeout=rule), limits=ClientLimits(timeout_s_max=9 * LONG)) as pair:
        made, client = pair
        call = made.cook(client)
        await made.heard.get()
        clock.pass_s(0.9 * LONG)
        await made.go_on()
        clock.pass_s(0.59 * LONG)
        look(client)
        await asyncio.sleep(0)
        assert not call.done()
        clock.pass_s(0.02 * LONG)
        look(client)
        with pytest.raises(CallTimeoutError, match="timeout_s_max"):
            await call


async def test_progress_does_not_extend_past_the_time_of_the_call_that_it_is_made_in(clock: Clock) -> None:
    async with kitchen("memory", limits=ClientLimits(timeout_s=LONG, timeout_s_max=9 * LONG)) as (made, client):
        before = within.DEADLINE.set(within.until_after(int(1.5 * LONG * 1e9)))
        call = made.cook(client)
        within.DEADLINE.reset(before)
        await made.heard.get()
        clock.pass_s(0.9 * LONG)
        await made.go_on()
        clock.pass_s(0.61 * LONG)
        look(client)
        with pytest.raises(CallTimeoutError):
            await call


async def test_without_a_follower_nothing_is_extended(clock: Clock) -> None:
    async with kitchen("memory", limits=ClientLimits(timeout_s=LONG)) as (made, client):
        call = asyncio.ensure_future(client.call_tool("cook"))
        while not made.server.turn.load.inflight:
            await asyncio.sleep(0)
        clock.pass_s(0.9 * LONG)
        made.told.put_nowait(True)
        await asyncio.sleep(0)
        clock.pass_s(0.2 * LONG)
        look(client)
        with pytest.raises(CallTimeoutError):
            await call
