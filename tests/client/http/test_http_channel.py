"""HttpChannel against erlmcp's own server: both eras, sessions, streams, questions of the server, the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rawpeer import LEGACY, make_house
from scripted import LATEST, META, MODERN, WAIT_S, Talk, nothing_left, talking

from erlmcp.client.http import HttpChannel
from erlmcp.errors import CallTimeoutError, ConfigurationError, ConnectionClosedError
from erlmcp.server.serve import http


def text_of(call: Any) -> str:
    return str(call.result["content"][0]["text"])


def url_of(listener: Any) -> str:
    return f"http://127.0.0.1:{listener.port}/mcp"


async def test_a_modern_call_is_answered_and_its_connection_is_used_again(loop_kind: str) -> None:
    async with nothing_left(), http(make_house().server) as listener, talking(url_of(listener)) as talk:
        for number in range(20):
            assert text_of(await talk.call(text=f"call {number}")) == f"call {number}"
        stats = talk.channel.stats()
        assert stats["opened_total"] == 1
        assert stats["sent_total"] == 20
        assert stats["reuse"] >= 0.95


async def test_calls_at_the_same_time_each_get_their_own_answer(loop_kind: str) -> None:
    limits = {"connection_count_max": 8}
    async with nothing_left(), http(make_house().server) as listener, talking(url_of(listener), limits=limits) as talk:
        found = await asyncio.gather(*(talk.call(text=f"call {number}") for number in range(200)))
        assert [text_of(call) for call in found] == [f"call {number}" for number in range(200)]
        assert talk.channel.stats()["opened_total"] <= 8
        assert talk.channel.stats()["reuse"] >= 0.95


async def test_a_name_outside_of_ascii_is_sent_in_the_base64_form() -> None:
    house = make_house()

    @house.server.tool(name="grüß")
    async def greet() -> str:
        return "Grüß Gott"

    async with http(house.server) as listener, talking(url_of(listener)) as talk:
        assert text_of(await talk.call("grüß")) == "Grüß Gott"


async def test_progress_comes_before_the_answer_on_its_stream(loop_kind: str) -> None:
    async with nothing_left(), http(make_house().server) as listener, talking(url_of(listener)) as talk:
        params = {"name": "count", "arguments": {"steps": 3}, "_meta": {**META, "progressToken": 7}}
        call = await talk.ask("tools/call", params, name="count")
        assert text_of(call) == "counted to 3"
        steps = [talk.front.calls.get_nowait() for _ in range(talk.front.calls.qsize())]
        assert [step.params["progress"] for step in steps] == [1, 2, 3]
        # The connection of the stream carries the next call.
        assert text_of(await talk.call(text="after")) == "after"
        assert talk.channel.stats()["opened_total"] == 1


async def test_an_error_answer_is_settled_whatever_its_status() -> None:
    async with http(make_house().server) as listener, talking(url_of(listener)) as talk:
        unknown = await talk.ask("no/such", {"_meta": META})
        assert unknown.kind == 4
        assert unknown.error["code"] == -32601  # with 404
        mismatch = await talk.ask("tools/call", {"name": "echo", "_meta": META}, name="other")
        assert mismatch.error["code"] == -32020  # with 400


async def test_the_first_request_names_the_revision_that_its_params_name() -> None:
    async with http(make_house().server) as listener, talking(url_of(listener), is_modern=False) as talk:
        found = await talk.ask("server/discover", {"_meta": META})
        assert MODERN in found.result["supportedVersions"]


async def test_cancelling_closes_the_stream_and_so_cancels_the_tool(loop_kind: str) -> None:
    house = make_house()
    async with nothing_left(), http(house.server) as listener, talking(url_of(listener)) as talk:
        request = talk.begin("tools/call", {"name": "wait", "arguments": {}, "_meta": META}, name="wait")
        await within(house.begun.wait())
        talk.channel.cancel(request, "enough")
        await within(house.cancelled.wait())
        assert talk.channel.stats()["inflight_count"] == 0
        assert text_of(await talk.call(text="after")) == "after"


async def test_a_call_ends_at_its_deadline_and_its_tool_is_cancelled(loop_kind: str) -> None:
    house = make_house()
    async with nothing_left(), http(house.server) as listener, talking(url_of(listener)) as talk:
        params = {"name": "wait", "arguments": {}, "_meta": META}
        with pytest.raises(CallTimeoutError, match=r"timeout_s=0\.05"):
            await talk.ask("tools/call", params, name="wait", timeout_s=0.05)
        await within(house.cancelled.wait())


async def test_listening_gets_what_changes() -> None:
    house = make_house()
    async with nothing_left(), http(house.server) as listener, talking(url_of(listener)) as talk:
        params = {"notifications": {"toolsListChanged": True}, "_meta": META}
        request = talk.begin("subscriptions/listen", params)
        assert (await talk.front.call()).method == "notifications/subscriptions/acknowledged"

        @house.server.tool
        async def late() -> str:
            return "late"

        assert (await talk.front.call()).method == "notifications/tools/list_changed"
        talk.channel.cancel(request, "enough")


# ---- the handshake revisions


@pytest.mark.parametrize("version", LEGACY)
async def test_a_session_is_kept_and_ended(version: str) -> None:
    house = make_house()
    async with nothing_left(), http(house.server) as listener:
        async with talking(url_of(listener), is_modern=False) as talk:
            hello = await talk.shake_hands(version)
            assert hello.result["protocolVersion"] == version
            assert text_of(await talk.call(text="one")) == "one"
            assert talk.channel.heads.session
            assert session_count(listener) == 1
        assert session_count(listener) == 0


async def test_the_server_asks_on_the_stream_and_is_answered_by_a_post(loop_kind: str) -> None:
    house, limits = make_house(), {"connection_count_max": 1}
    async with nothing_left(), http(house.server) as listener:
        async with talking(url_of(listener), is_modern=False, limits=limits) as talk:
            await talk.shake_hands(capabilities={"elicitation": {}})
            request = talk.begin("tools/call", {"name": "name", "arguments": {}}, name="name")
            question = await talk.front.call()
            assert question.method == "elicitation/create"
            talk.channel.answer(question.id_raw, {"action": "accept", "content": {"name": "Ada"}})
            assert text_of(await within(request.future)) == "Hello, Ada!"
        assert len(listener.handler.sessions) == 0


async def test_a_stream_that_the_server_leaves_is_resumed(loop_kind: str) -> None:
    house = make_house(event_store=True)
    async with nothing_left(), http(house.server) as listener, talking(url_of(listener), is_modern=False) as talk:
        await talk.shake_hands()
        request = talk.begin("tools/call", {"name": "leave", "arguments": {}}, name="leave")
        await within(house.begun.wait())
        house.go.set()
        assert text_of(await within(request.future)) == "left and came back"


async def test_the_stream_of_the_session_tells_what_changes(loop_kind: str) -> None:
    house = make_house()
    async with nothing_left(), http(house.server) as listener, talking(url_of(listener), is_modern=False) as talk:
        await talk.shake_hands()
        await until(
            lambda: talk.channel._listener is not None and talk.channel._listener._stream.connection is not None
        )
        await talk.call(text="the stream is open after this")

        @house.server.tool
        async def late() -> str:
            return "late"

        assert (await talk.front.call()).method == "notifications/tools/list_changed"


async def test_cancelling_in_a_session_is_told_by_a_word() -> None:
    house = make_house()
    async with nothing_left(), http(house.server) as listener, talking(url_of(listener), is_modern=False) as talk:
        await talk.shake_hands()
        request = talk.begin("tools/call", {"name": "wait", "arguments": {}}, name="wait")
        await within(house.begun.wait())
        talk.channel.cancel(request, "enough")
        await within(house.cancelled.wait())


async def test_a_server_of_the_old_pair_is_spoken_to(loop_kind: str) -> None:
    house = make_house(sse_transport=True)
    async with nothing_left(), http(house.server) as listener:
        url = f"http://127.0.0.1:{listener.port}/sse"
        async with talking(url, is_modern=False) as talk:
            hello = await talk.shake_hands("2024-11-05")
            assert hello.result["protocolVersion"] == "2024-11-05"
            found = await asyncio.gather(*(talk.call(text=f"call {number}") for number in range(20)))
            assert [text_of(call) for call in found] == [f"call {number}" for number in range(20)]


# ---- the end


async def test_closing_fails_what_is_in_flight_and_leaves_nothing(loop_kind: str) -> None:
    house = make_house()
    async with nothing_left(), http(house.server) as listener:
        async with talking(url_of(listener)) as talk:
            params = {"name": "wait", "arguments": {}, "_meta": META}
            requests = [talk.begin("tools/call", params, name="wait") for _ in range(10)]
            await within(house.begun.wait())
        for request in requests:
            with pytest.raises(ConnectionClosedError, match="was closed"):
                await request.future
        assert talk.front.losses == []
        with pytest.raises(ConnectionClosedError, match="was closed"):
            talk.begin("tools/list", {"_meta": META})
        await talk.channel.aclose()


async def test_where_nobody_listens_opening_says_so_and_leaves_nothing(loop_kind: str) -> None:
    async with nothing_left():
        async with http(make_house().server) as listener:
            url = url_of(listener)
        with pytest.raises(ConnectionClosedError, match="cannot reach"):
            async with talking(url):
                pass


@pytest.mark.parametrize(
    ("url", "options", "what"),
    [
        ("ftp://localhost/", {}, "is not an http"),
        ("http://", {}, "is not an http"),
        ("http://a:b@localhost/", {}, "credentials within a URL"),
        ("http://localhost:x/", {}, "is no URL"),
        ("http://localhost/", {"headers": {"Mcp-Session-Id": "x"}}, "cannot be set"),
        ("http://localhost/", {"headers": {"X-Evil": "a\r\nb: c"}}, "cannot be sent"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(url: str, options: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigurationError, match=what):
        HttpChannel(url, **options)


async def test_a_pool_is_shared_within_an_endpoint_and_never_between_credentials() -> None:
    async with http(make_house().server) as listener:
        url = url_of(listener)
        async with talking(url, headers={"Authorization": "Bearer a"}) as talk:
            assert text_of(await talk.call(text="one")) == "one"
            with pytest.raises(ConfigurationError, match="other credentials"):
                HttpChannel(url, headers={"Authorization": "Bearer b"}, pool=talk.channel.pool)
            other = Talk(HttpChannel(url, headers={"authorization": "Bearer a"}, pool=talk.channel.pool))
            await other.channel.open(other.front)
            other.be_modern()
            assert text_of(await other.call(text="two")) == "two"
            await other.channel.aclose()
            assert text_of(await talk.call(text="three")) == "three"
            assert talk.channel.stats()["opened_total"] == 1


def session_count(listener: Any) -> int:
    return len(listener.handler.sessions)


async def within(awaitable: Any) -> Any:
    async with asyncio.timeout(WAIT_S):
        return await awaitable


async def until(is_so: Any) -> None:
    async with asyncio.timeout(WAIT_S):
        while not is_so():
            await asyncio.sleep(0)


assert LATEST in LEGACY
