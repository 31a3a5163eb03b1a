"""Servers that fail at each point of a call: it ends once, typed, in time; nothing is left, and the next call works."""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any

import pytest
from ways import RUDE, connected, nothing_left, rude, tasks_left

from erlmcp import CallTimeoutError, Client, ConnectionClosedError, McpError, NegotiationError, ServerExitedError
from erlmcp.client.bound import ClientLimits
from erlmcp.client.memory import MemoryChannel
from erlmcp.client.process import ProcessChannel
from erlmcp.client.stream import StreamChannel
from erlmcp.errors import InvalidAnswerError, LimitError

pytestmark = pytest.mark.usefixtures(nothing_left.__name__)


async def fine(server: Any) -> None:
    """What the next connection finds."""
    await server.discover()
    while True:
        request = await server.expect("tools/call")
        server.text(request, f"fine {request['params']['name']}")


async def before_it_is_sent(server: Any) -> None:
    await server.discover()
    server.abort()


async def sent(server: Any) -> None:
    await server.discover()
    await server.expect("tools/call")
    server.close()


async def half_an_answer(server: Any) -> None:
    await server.discover()
    request = await server.expect("tools/call")
    server.send(b'{"jsonrpc":"2.0","id":%d,"result":{"content":[' % request["id"])
    server.close()


@pytest.mark.parametrize("script", [sent, half_an_answer])
async def test_a_server_lost_under_a_call_fails_it_and_the_next_call_works(
    peer: Any, script: Any, loop_kind: str
) -> None:
    async with peer(script, fine) as target, connected(target) as client:
        with pytest.raises(ConnectionClosedError, match="the server closed the connection"):
            await client.call_tool("a")
        assert (await client.call_tool("b")).data == "fine b"


async def test_a_server_lost_before_the_call_is_connected_to_anew(peer: Any, loop_kind: str) -> None:
    async with peer(before_it_is_sent, fine) as target, connected(target) as client:
        for name in ("a", "b"):
            try:
                found = (await client.call_tool(name)).data
            except ConnectionClosedError:
                continue  # The loss was not known yet, and nobody knows whether the server had got it.
            assert found == f"fine {name}"
        assert (await client.call_tool("c")).data == "fine c"


async def test_a_question_that_may_be_asked_again_is_asked_again(peer: Any) -> None:
    async def script(server: Any) -> None:
        await server.discover()
        await server.expect("tools/list")
        server.abort()

    async def second(server: Any) -> None:
        await server.discover()
        tools = [{"name": "a", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}]
        server.answer(await server.expect("tools/list"), {"resultType": "complete", "tools": tools})
        await server.expect("tools/call")
        server.abort()

    async with peer(script, second, fine) as target, connected(target) as client:
        assert [tool.name for tool in await client.list_tools()] == ["a"]
        assert (await client.call_tool("a")).data == "fine a"  # it only reads


async def test_without_reconnecting_every_later_call_names_the_loss(peer: Any) -> None:
    async with peer(sent, fine) as target, connected(target, reconnect=False) as client:
        for _ in range(3):
            with pytest.raises(ConnectionClosedError, match="the server closed the connection"):
                await client.call_tool("a")
        await client.connect()  # said so by the program
        assert (await client.call_tool("a")).data == "fine a"


async def test_a_loss_together_with_the_last_word_of_the_handshake_is_a_loss(memory: Any) -> None:
    class Fleeting(MemoryChannel):
        """Gone as soon as it has said who it is."""

        def feed(self, data: bytes) -> None:
            super().feed(data)
            self._lose(lambda: ConnectionClosedError("gone at once"))

    async with memory() as found:
        client = Client(Fleeting(found.server), mode="2026-07-28")
        with pytest.raises(ConnectionClosedError, match="gone at once"):
            await client.connect()
        assert not client.is_connected


async def test_the_loss_of_the_connection_fails_all_that_wait_each_with_an_error_of_its_own(peer: Any) -> None:
    async def script(server: Any) -> None:
        await server.discover()
        for _ in range(100):
            await server.expect("tools/call")
        server.abort()

    limits = ClientLimits(inflight_count_max=100)
    async with peer(script, fine) as target, connected(target, limits=limits) as client:
        found = await asyncio.gather(*(client.call_tool("a") for _ in range(150)), return_exceptions=True)
        lost = [each for each in found if isinstance(each, ConnectionClosedError)]
        # Those in line behind the hundred had not been sent: they went to the next connection.
        assert len(lost) == 100 == len({id(each) for each in lost})
        assert [each.data for each in found if not isinstance(each, BaseException)] == ["fine a"] * 50


async def test_a_server_that_stalls_costs_the_deadline_and_no_more(peer: Any, loop_kind: str) -> None:
    late = asyncio.Event()

    async def script(server: Any) -> None:
        await server.discover()
        request = await server.expect("tools/call")
        cancelled = await server.expect("notifications/cancelled")
        assert cancelled["params"] == {"requestId": request["id"], "reason": "timed out"}
        server.text(request, "too late")
        server.text(await server.expect("tools/call"), "in time")
        late.set()

    async with peer(script) as target, connected(target) as client:
        with pytest.raises(CallTimeoutError, match=r"tools/call within timeout_s=0.05") as raised:
            await client.call_tool("a", timeout_s=0.05)
        assert isinstance(raised.value, TimeoutError)
        assert (await client.call_tool("b")).data == "in time"
        assert client.channel.stray_count == 1  # type: ignore[union-attr]
        assert client.channel.inflight_count == 0  # type: ignore[union-attr]


async def test_deadlines_are_kept_in_their_order_whatever_the_order_of_the_calls(peer: Any) -> None:
    async def script(server: Any) -> None:
        await server.discover()

    async with peer(script) as target, connected(target) as client:
        order: list[float] = []

        async def call(timeout_s: float) -> None:
            with pytest.raises(CallTimeoutError):
                await client.call_tool("a", timeout_s=timeout_s)
            order.append(timeout_s)

        await asyncio.gather(*(call(timeout_s) for timeout_s in (0.3, 0.05, 0.2, 0.1)))
        assert order == [0.05, 0.1, 0.2, 0.3]


async def test_garbage_wrong_ids_doubles_and_disorder_harm_no_call(peer: Any, loop_kind: str) -> None:
    noise: list[str] = []

    async def script(server: Any) -> None:
        await server.discover()
        first, second = await server.expect("tools/call"), await server.expect("tools/call")
        server.send(b"what is this?\n\n{}\n[]\n\xff\xfe\n")
        server.text({"id": 10_000}, "nobody's")
        server.text({"id": str(first["id"])}, "not the same id")
        server.text({"id": None}, "nobody's either")
        server.text(second, "second")
        server.text(second, "second again")
        server.text(first, "first")

    async with peer(script) as target, connected(target, on_noise=noise.append) as client:
        found = await asyncio.gather(client.call_tool("a"), client.call_tool("b"))
        assert [each.data for each in found] == ["first", "second"]
        assert client.channel.stray_count >= 3  # type: ignore[union-attr]
    assert noise[0] == "what is this?"


@pytest.mark.parametrize(
    "answer",
    [
        {"result": 5},
        {"result": None},
        {"error": "words"},
        {"error": {"code": "x"}},
        {},
        {"result": {"content": [], "resultType": None}},
    ],
)
async def test_an_answer_that_is_none_is_a_typed_error(peer: Any, answer: dict[str, Any]) -> None:
    async def script(server: Any) -> None:
        await server.discover()
        request = await server.expect("tools/call")
        server.send({"jsonrpc": "2.0", "id": request["id"], **answer})
        server.text(await server.expect("tools/call"), "fine")

    async with peer(script) as target, connected(target, timeout_s=5) as client:
        with pytest.raises((InvalidAnswerError, McpError)):
            await client.call_tool("a")
        assert (await client.call_tool("a")).data == "fine"


async def test_content_that_is_none_is_an_invalid_answer_when_it_is_looked_at(peer: Any) -> None:
    async def script(server: Any) -> None:
        await server.discover()
        server.answer(await server.expect("tools/call"), {"content": [{"type": "smell"}]})

    async with peer(script) as target, connected(target) as client:
        result = await client.call_tool("a")
        with pytest.raises(InvalidAnswerError, match="ContentBlock"):
            _ = result.content
        assert result.data == ""


async def test_an_answer_over_the_limit_is_noise_and_the_stream_goes_on(peer: Any) -> None:
    noise: list[str] = []

    async def script(server: Any) -> None:
        await server.discover()
        server.text(await server.expect("tools/call"), "x" * 5000)
        server.text(await server.expect("tools/call"), "short")

    options = {"limits": ClientLimits(message_bytes_max=4096), "on_noise": noise.append, "timeout_s": 0.2}
    async with peer(script) as target, connected(target, **options) as client:
        with pytest.raises(CallTimeoutError):
            await client.call_tool("a")
        assert (await client.call_tool("a")).data == "short"
    assert "message_bytes_max" in noise[0]


async def test_batches_of_answers_are_taken_apart(peer: Any) -> None:
    async def script(server: Any) -> None:
        await server.initialize("2025-03-26")
        requests = [await server.expect("tools/call") for _ in range(2)]
        batch = [
            {"jsonrpc": "2.0", "id": each["id"], "result": {"content": [{"type": "text", "text": str(each["id"])}]}}
            for each in requests
        ]
        server.send([*reversed(batch), {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "x"}}])

    logs: list[Any] = []
    async with peer(script) as target, connected(target, mode="2025-03-26", on_log=logs.append) as client:
        found = await client.call_many([("a", None), ("b", None)])
        assert sorted(int(each.data) for each in found) == [int(each.data) for each in found]
        assert logs == [{"level": "x"}]


# -- cancellation ------------------------------------------------------------------------------------------------------


async def test_a_caller_that_is_cancelled_tells_the_server(way: Any, loop_kind: str, mode: str) -> None:
    async with way() as found, connected(found.target, mode=mode) as client:
        waiting = asyncio.create_task(client.call_tool("wait"))
        await asyncio.sleep(0)
        await client.ping()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await client.ping()
        assert client.channel.inflight_count == 0  # type: ignore[union-attr]
        if found.server is not None:
            while not found.server.cancelled:
                await asyncio.sleep(0)


async def test_a_scope_that_ends_takes_its_calls_with_it(way: Any) -> None:
    async with way() as found, connected(found.target) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.call_tool("wait")
        assert (await client.call_tool("echo", {"text": "on"})).data == "on"


@pytest.mark.parametrize("inflight", [1000, 7])
async def test_a_thousand_calls_cancelled_at_random_end_once_each(way: Any, inflight: int, loop_kind: str) -> None:
    chance = random.Random(inflight)
    ends = [0] * 1000

    async with way() as found, connected(found.target, limits=ClientLimits(inflight_count_max=inflight)) as client:

        async def call(index: int) -> str:
            try:
                result = await client.call_tool("turns", {"count": chance.randrange(1, 6)})
                return "answered" if result.data in range(1, 6) else "wrong"
            except asyncio.CancelledError:
                return "cancelled"
            finally:
                ends[index] += 1

        tasks = [asyncio.create_task(call(index)) for index in range(1000)]
        await asyncio.sleep(0)
        for task in chance.sample(tasks, 400):
            task.cancel()
            if chance.random() < 0.05:
                await asyncio.sleep(0)
        found_ends = await asyncio.gather(*tasks)
        assert ends == [1] * 1000
        assert set(found_ends) == {"answered", "cancelled"}
        assert found_ends.count("answered") >= 600
        assert (await client.call_tool("echo", {"text": "still"})).data == "still"
        assert client.channel.inflight_count == 0  # type: ignore[union-attr]
        assert len(client.channel._correlation) == 0  # type: ignore[union-attr]


async def test_the_line_behind_the_calls_in_flight_has_an_end(peer: Any) -> None:
    async def script(server: Any) -> None:
        await server.discover()
        held = [await server.expect("tools/call") for _ in range(2)]
        for request in held:
            server.text(request, "at last")
        server.text(await server.expect("tools/call"), "third")

    limits = ClientLimits(inflight_count_max=2, queue_count_max=1)
    async with peer(script) as target, connected(target, limits=limits) as client:
        found = await asyncio.gather(*(client.call_tool("a") for _ in range(4)), return_exceptions=True)
        assert [each.data for each in found[:3]] == ["at last", "at last", "third"]  # type: ignore[union-attr]
        assert isinstance(found[3], LimitError)
        assert found[3].limit == "queue_count_max"


async def test_calls_that_expired_in_line_take_no_place_in_it(peer: Any) -> None:
    gate = asyncio.Event()

    async def script(server: Any) -> None:
        await server.discover()
        request = await server.expect("tools/call")
        await gate.wait()
        server.text(request, "first")
        server.text(await server.expect("tools/call"), "last")

    limits = ClientLimits(inflight_count_max=1, queue_count_max=2)
    async with peer(script) as target, connected(target, limits=limits) as client:
        first = asyncio.create_task(client.call_tool("a"))
        await asyncio.sleep(0)
        for _ in range(7):
            with pytest.raises(CallTimeoutError):
                await client.call_tool("b", timeout_s=0.005)
        assert len(client.channel._queue) <= 4  # type: ignore[union-attr]
        last = asyncio.create_task(client.call_tool("c"))
        await asyncio.sleep(0)
        gate.set()
        assert ((await first).data, (await last).data) == ("first", "last")


async def test_a_call_in_line_expires_and_is_cancelled_like_any_other(peer: Any) -> None:
    limits = ClientLimits(inflight_count_max=1)
    gate = asyncio.Event()

    async def held(server: Any) -> None:
        await server.discover()
        request = await server.expect("tools/call")
        await gate.wait()
        server.text(request, "first")
        assert (await server.expect("tools/call"))["params"]["name"] == "d"
        server.text(server.seen[-1], "fourth")

    async with peer(held) as target, connected(target, limits=limits) as client:
        first = asyncio.create_task(client.call_tool("a"))
        await asyncio.sleep(0)
        with pytest.raises(CallTimeoutError):
            await client.call_tool("b", timeout_s=0.02)
        third = asyncio.create_task(client.call_tool("c"))
        await asyncio.sleep(0)
        third.cancel()
        fourth = asyncio.create_task(client.call_tool("d"))
        await asyncio.sleep(0)
        gate.set()
        assert ((await first).data, (await fourth).data) == ("first", "fourth")


async def test_a_server_that_does_not_read_is_not_written_to(peer: Any, loop_kind: str) -> None:
    gate = asyncio.Event()

    async def script(server: Any) -> None:
        await server.discover()
        await gate.wait()
        for _ in range(40):
            request = await server.expect("tools/call")
            server.text(request, str(len(request["params"]["arguments"]["blob"])))

    async with peer(script) as target, connected(target) as client:
        calls = [asyncio.create_task(client.call_tool("a", {"blob": "x" * 50_000})) for _ in range(40)]
        while not client.channel._is_paused:  # type: ignore[union-attr]
            await asyncio.sleep(0)
        before = client.channel.write_count  # type: ignore[union-attr]
        with pytest.raises(CallTimeoutError):
            await client.call_tool("b", timeout_s=0.05)
        assert client.channel.write_count == before  # type: ignore[union-attr]
        gate.set()
        assert {result.data for result in await asyncio.gather(*calls)} == {"50000"}


async def test_what_is_told_a_server_that_does_not_read_has_an_end(peer: Any, loop_kind: str) -> None:
    gate = asyncio.Event()

    async def script(server: Any) -> None:
        await server.discover()
        await gate.wait()

    async with peer(script) as target, connected(target, limits=ClientLimits(outbox_bytes_max=1 << 20)) as client:
        while client.is_connected:
            await client.notify("notifications/whatever", {"blob": "x" * 50_000})
            await asyncio.sleep(0)
        gate.set()
        with pytest.raises(ConnectionClosedError, match="outbox_bytes_max=1048576"):
            raise client._loss  # type: ignore[misc]


async def test_much_in_one_turn_leaves_in_several_writes_and_one_that_is_too_large_in_none(way: Any) -> None:
    limits = ClientLimits(outbox_bytes_max=300_000)
    async with way() as found, connected(found.target, limits=limits) as client:
        calls: list[Any] = [("echo", {"text": "x" * 100_000}) for _ in range(10)]
        assert {len(result.data) for result in await client.call_many(calls)} == {100_000}
        with pytest.raises(LimitError):
            await client.call_tool("echo", {"text": ["x" * 400_000]})
        assert (await client.call_tool("echo", {"text": "on"})).data == "on"


async def test_a_modern_server_that_asks_is_not_answered(peer: Any) -> None:
    noise: list[str] = []

    async def script(server: Any) -> None:
        await server.discover()
        request = await server.expect("tools/call")
        server.send({"jsonrpc": "2.0", "id": 1, "method": "ping"})
        server.text(request, "fine")

    async with peer(script) as target, connected(target, on_noise=noise.append) as client:
        assert (await client.call_tool("a")).data == "fine"
    assert noise == ["the server asked for ping, which 2026-07-28 has not"]


async def test_a_channel_that_was_given_ready_made_is_opened_again(tmp_path: Any, peer: Any) -> None:
    async with peer(sent, fine) as target:
        channel = StreamChannel(path=target.removeprefix("unix:"))
        async with connected(channel) as client:
            with pytest.raises(ConnectionClosedError):
                await client.call_tool("a")
            assert (await client.call_tool("b")).data == "fine b"
    async with connected(ProcessChannel([sys.executable, RUDE])) as client:
        with pytest.raises(ServerExitedError):
            await client.call_tool("die")
        assert (await client.call_tool("hello")).data == "hello"


# -- the beginning and the end -----------------------------------------------------------------------------------------


async def test_an_address_where_nobody_listens(tmp_path: Any, loop_kind: str) -> None:
    with pytest.raises(ConnectionClosedError, match="cannot connect to unix:"):
        await Client(f"unix:{tmp_path}/nobody.sock").connect()
    with pytest.raises(ConnectionClosedError, match="nothing listens there"):
        await Client("tcp://127.0.0.1:1").connect()
    with pytest.raises(ConnectionClosedError, match="cannot start /no/such/program"):
        await Client(["/no/such/program", "x"]).connect()
    assert not tasks_left()


async def test_a_handshake_that_takes_too_long_is_given_up(peer: Any) -> None:
    async def silent(server: Any) -> None:
        await server.expect("server/discover")

    limits = ClientLimits(connect_timeout_s=0.2, probe_timeout_s=0.05)
    async with peer(silent) as target:
        with pytest.raises(CallTimeoutError, match=r"initialize|handshake"):
            await Client(target, limits=limits).connect()


async def test_a_connect_that_is_cancelled_leaves_nothing(peer: Any) -> None:
    asked = asyncio.Event()

    async def silent(server: Any) -> None:
        await server.expect("server/discover")
        asked.set()

    async with peer(silent) as target:
        client = Client(target)
        connecting = asyncio.create_task(client.connect())
        await asked.wait()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await client.aclose()


async def test_closing_while_it_connects_ends_the_connecting(peer: Any) -> None:
    asked = asyncio.Event()

    async def silent(server: Any) -> None:
        await server.expect("server/discover")
        asked.set()

    async with peer(silent) as target:
        client = Client(target)
        connecting = asyncio.create_task(client.connect())
        await asked.wait()
        await client.aclose()
        with pytest.raises(ConnectionClosedError, match="closed"):
            await connecting


# -- eras --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [-32601, -32602, -32600, -32000, 0])
async def test_any_other_error_to_the_probe_is_a_server_of_the_handshake_era(peer: Any, code: int) -> None:
    async def script(server: Any) -> None:
        server.refuse(await server.expect("server/discover"), code)
        params = await server.initialize("2025-06-18")
        assert params["protocolVersion"] == "2025-11-25"
        await server.expect("notifications/initialized")
        assert "_meta" not in (await server.expect("tools/call")).get("params", {})
        server.answer(server.seen[-1], {"content": [{"type": "text", "text": "old"}]})

    async with peer(script) as target, connected(target) as client:
        assert (client.era, client.protocol_version) == ("legacy", "2025-06-18")
        assert (await client.call_tool("a")).data == "old"


async def test_a_server_that_refuses_a_log_level_is_talked_to_all_the_same(peer: Any) -> None:
    async def script(server: Any) -> None:
        await server.initialize(capabilities={"logging": {}})
        server.refuse(await server.expect("logging/setLevel"), -32603)
        server.answer(await server.expect("ping"), {})

    async with peer(script) as target, connected(target, mode="legacy", log_level="error") as client:
        await client.ping()


async def test_silence_is_a_server_of_the_handshake_era(peer: Any) -> None:
    async def script(server: Any) -> None:
        await server.initialize()

    async with peer(script) as target, connected(target, limits=ClientLimits(probe_timeout_s=0.05)) as client:
        assert client.era == "legacy"


async def test_a_modern_server_that_was_slow_to_answer_is_found_out_all_the_same(peer: Any) -> None:
    async def script(server: Any) -> None:
        request = await server.expect("server/discover")
        server.refuse(await server.expect("initialize"), -32022, "no", {"supported": ["2026-07-28"]})
        del request
        await server.discover()

    async with peer(script) as target, connected(target, limits=ClientLimits(probe_timeout_s=0.05)) as client:
        assert client.era == "modern"


async def test_a_modern_error_keeps_the_era_and_is_asked_again(peer: Any) -> None:
    async def script(server: Any) -> None:
        server.refuse(await server.expect("server/discover"), -32022, "no", {"supported": ["2026-07-28"]})
        await server.discover()

    async with peer(script) as target, connected(target) as client:
        assert client.era == "modern"


@pytest.mark.parametrize(
    ("mode", "script"),
    [
        ("2026-07-28", lambda server, request: server.refuse(request, -32601)),
        ("2026-07-28", lambda server, request: server.answer(request, {"supportedVersions": ["2031-01-01"]})),
        ("auto", lambda server, request: server.refuse(request, -32022, "no", {"supported": ["2031-01-01"]})),
    ],
)
async def test_no_common_revision_is_said_so(peer: Any, mode: str, script: Any) -> None:
    async def serve(server: Any) -> None:
        script(server, await server.expect("server/discover"))

    async with peer(serve) as target:
        with pytest.raises(NegotiationError):
            await Client(target, mode=mode).connect()


@pytest.mark.parametrize(("mode", "version"), [("legacy", "2031-01-01"), ("2025-06-18", "2025-03-26")])
async def test_a_counter_offer_that_will_not_do_is_said_so(peer: Any, mode: str, version: str) -> None:
    async def serve(server: Any) -> None:
        await server.initialize(version)

    async with peer(serve) as target:
        with pytest.raises(NegotiationError, match=version):
            await Client(target, mode=mode).connect()


async def test_a_server_that_ends_at_the_probe_is_started_again_for_the_handshake() -> None:
    async with connected(rude("exits-at-unknown")) as client:
        assert client.era == "legacy"
        assert (await client.call_tool("hello")).data == "hello"


async def test_what_kills_the_process_is_in_the_error() -> None:
    async with connected(rude()) as client:
        with pytest.raises(ServerExitedError, match="SIGKILL") as raised:
            await client.call_tool("die")
        assert raised.value.returncode == -9
        assert "good morning" in raised.value.stderr
        assert (await client.call_tool("again")).data == "again"
