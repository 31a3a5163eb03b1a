"""A server's own jobs: with the lifespan, with a session, from a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from erlmcp import ConfigurationError, Context, Limits, Server
from erlmcp.errors import LimitError


async def test_jobs_begin_after_the_lifespan_was_entered_and_end_before_it_is_left(loop_kind: str) -> None:
    said: list[str] = []
    ran = asyncio.Event()

    @asynccontextmanager
    async def lifespan(server: Server) -> AsyncIterator[str]:
        said.append("enter")
        yield "value"
        said.append("leave")

    server = Server("jobs", lifespan=lifespan)

    @server.every(0.01, first_s=0, name="sweep")
    async def sweep() -> None:
        said.append(f"run {server.lifespan_value}")
        ran.set()
        try:
            await asyncio.Event().wait()
        finally:
            said.append("end")

    assert [job.name for job in server.scheduler.jobs()] == ["sweep"]
    assert said == []
    for _round in range(2):
        ran.clear()
        async with server.running():
            await asyncio.wait_for(ran.wait(), 10)
    assert said == ["enter", "run value", "end", "leave"] * 2
    assert server.scheduler.running_count == 0


async def test_a_job_is_scheduled_from_the_loop_and_from_a_thread(loop_kind: str, talk: Any) -> None:
    server = Server("jobs")
    loop = asyncio.get_running_loop()
    found: asyncio.Queue[str] = asyncio.Queue()

    def tell(word: str) -> None:
        loop.call_soon_threadsafe(found.put_nowait, word)

    async def say(word: str) -> None:
        found.put_nowait(word)

    @server.tool
    def from_thread() -> str:
        return server.schedule(tell, "thread").name

    @server.tool
    async def from_loop() -> str:
        return server.schedule(say, "loop", name="other", first_s=0.01).name

    async with talk(server) as client:
        assert await client.text("from_thread") == "tell"
        assert await asyncio.wait_for(found.get(), 10) == "thread"
        assert await client.text("from_loop") == "other"
        assert await asyncio.wait_for(found.get(), 10) == "loop"
        while len(server.scheduler):
            await asyncio.sleep(0)


async def test_an_error_of_scheduling_reaches_the_thread_that_asked(talk: Any) -> None:
    server = Server("jobs", limits=Limits(job_count_max=1))
    errors: list[Exception] = []

    @server.tool
    def plan() -> str:
        for _ in range(2):
            try:
                server.schedule(len, "abc", first_s=100)
            except LimitError as error:
                errors.append(error)
        return "planned"

    async with talk(server) as client:
        assert await client.text("plan") == "planned"
    assert [error.limit for error in errors] == ["job_count_max"]  # type: ignore[attr-defined]
    assert len(server.scheduler) == 0


async def test_the_jobs_of_a_conversation_end_with_it(loop_kind: str, talk: Any) -> None:
    server = Server("jobs")
    ended = asyncio.Event()
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    @server.tool
    async def plan(ctx: Context) -> str:
        return ctx.schedule(work, name="mine").name

    async with server.running():
        async with talk(server) as client:
            assert await client.text("plan") == "mine"
            await asyncio.wait_for(begun.wait(), 10)
            assert len(server.scheduler) == 1
        await asyncio.wait_for(ended.wait(), 10)
        assert len(server.scheduler) == 0


async def test_a_run_that_takes_too_long_is_cancelled_on_a_real_loop(
    loop_kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server("jobs")
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with server.running():
        job = server.schedule(work, timeout_s=0.2, every_s=100, first_s=0)
        await asyncio.wait_for(ended.wait(), 10)
        while job.runs:
            await asyncio.sleep(0)
        assert isinstance(job.last_error, TimeoutError)
        assert not job.is_ended


async def test_a_request_without_a_session_cannot_have_jobs_of_its_own() -> None:
    server = Server("jobs")

    class Requests:
        state = None

    class Exchange:
        session = Requests()

    with pytest.raises(ConfigurationError, match="belongs to no session"):
        Context(Exchange(), server).schedule(len, "abc")  # type: ignore[arg-type]
