"""Roll-outs in a running server: how calls and connections are dealt, timed and counted, over every transport."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
from typing import Any

import pytest

from erlmcp import Client, Context, Flags, Server, ToolError, core
from erlmcp.errors import ConfigurationError
from erlmcp.flags import of_phase
from erlmcp.policy.rollout import BACK, DONE, RUNNING, SHADOW, Rules
from erlmcp.server.serve import http, unix
from erlmcp.server.trial import Split
from erlmcp.server.watch import FirstLink, WatchedLink

HALF = Rules(shares=(0.5, 1.0))
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


def build() -> Server:
    server = Server("trial", flags=Flags())

    @server.tool
    async def which() -> str:
        return "old"

    @server.tool
    async def echo(text: str) -> str:
        return text

    @server.tool
    async def wait(text: str) -> str:
        await asyncio.sleep(0)
        return text

    @server.tool
    async def fail() -> str:
        raise ToolError("as wanted")

    @server.tool
    def thread(a: int) -> int:
        return a + 1

    return server


async def new_which() -> str:
    return "new"


def call_of(number: int, name: str, **arguments: Any) -> bytes:
    params = {"name": name, "arguments": arguments, "_meta": META}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode() + b"\n"


# -- two versions of a tool ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
async def test_a_connection_gets_one_version_and_the_connections_both(talk: Any, version: str) -> None:
    server = build()
    trial = server.candidate("which", new_which, rules=HALF)
    counts = {"old": 0, "new": 0}
    async with server.running():
        for _ in range(20):
            async with talk(server, version) as client:
                found = {await client.text("which") for _ in range(4)}
            assert len(found) == 1
            counts[found.pop()] += 4
    assert all(counts.values())
    assert (trial.policy.old.count, trial.policy.new.count) == (counts["old"], counts["new"])
    assert trial.policy.old.times.count == counts["old"]


async def test_without_stickiness_each_call_is_dealt_by_itself(talk: Any) -> None:
    server = build()
    server.candidate("which", new_which, rules=HALF, sticky="call")
    async with talk(server) as client:
        assert [await client.text("which") for _ in range(6)] == ["old", "new"] * 3


async def test_the_other_tools_and_the_list_are_as_they_were(talk: Any) -> None:
    server = build()
    before = server.describe()
    route = server.routes.method("tools/call"), server.quick_route
    server.candidate("which", new_which, rules=HALF)
    assert (server.routes.method("tools/call"), server.quick_route) == route
    assert server.routes.entry("tools/call", "echo") is server.tools["echo"]
    assert isinstance(server.routes.entry("tools/call", "which"), Split)
    assert server.describe() == before
    async with talk(server) as client:
        assert await client.text("echo", {"text": "x"}) == "x"


async def test_a_client_of_this_process_takes_part_and_has_its_short_way_again_when_it_is_over() -> None:
    server = build()
    trial = server.candidate("which", new_which, rules=HALF, sticky="call")
    tool = server.tools["which"]
    assert not tool.is_simple
    async with Client(server) as client:
        assert {(await client.call_tool("which")).text for _ in range(4)} == {"old", "new"}
        trial.back()
        assert tool.is_simple
        assert {(await client.call_tool("which")).text for _ in range(4)} == {"old"}
        trial.advance()
        trial.advance()
        assert trial.policy.state == DONE
        assert not tool.is_simple
        assert {(await client.call_tool("which")).text for _ in range(4)} == {"new"}
        assert not isinstance(server.routes.entry("tools/call", "which"), Split)
        server.end_rollout("which")
        assert {(await client.call_tool("which")).text for _ in range(4)} == {"old"}
        assert tool.is_simple


async def test_a_version_that_always_fails_is_rolled_back_while_it_serves(talk: Any) -> None:
    server = build()

    async def broken() -> str:
        raise ToolError("broken")

    trial = server.candidate("which", broken, rules=HALF, sticky="call")
    async with talk(server) as client:
        texts = [await client.text("which") for _ in range(400)]
    assert trial.policy.state == BACK
    assert texts.count("broken") == Rules().first_look
    assert set(texts[-100:]) == {"old"}
    assert "100.00% of calls fail, 0.00% on the old side" in trial.policy.events[-1]["why"]


async def test_a_slower_version_is_rolled_back_by_its_times(talk: Any) -> None:
    server = build()
    now_ns = itertools.count(0, 1000).__next__
    late = [0]

    async def slow() -> str:
        late[0] += 3_000_000
        return "new"

    trial = server.candidate("which", slow, rules=HALF, sticky="call", clock_ns=lambda: now_ns() + late[0])
    async with talk(server) as client:
        for _ in range(2000):
            await client.text("which")
            if trial.policy.state == BACK:
                break
    assert trial.policy.state == BACK
    assert "p50 is at least" in trial.policy.events[-1]["why"]


async def test_middleware_runs_around_both_versions_once(talk: Any) -> None:
    server = build()
    seen: list[str] = []

    async def note(ctx: Context, call_next: Any) -> Any:
        seen.append(ctx.method)
        return await call_next(ctx)

    trial = server.candidate("which", new_which, rules=HALF, sticky="call")
    server.add_middleware(note)
    async with talk(server) as client:
        assert [await client.text("which") for _ in range(4)] == ["old", "new"] * 2
        await client.error("tools/call", {"name": "which", "arguments": []})
    assert seen == ["tools/call"] * 5
    assert (trial.policy.old.count, trial.policy.new.count) == (3, 2)
    assert trial.policy.old.error_count == 1


async def test_calls_in_flight_end_on_their_side_whatever_is_decided_meanwhile(talk: Any) -> None:
    server = build()
    gate = asyncio.Event()

    async def patient(text: str) -> str:
        await gate.wait()
        return f"new {text}"

    trial = server.candidate("wait", patient, rules=HALF, sticky="call")
    async with talk(server) as client:
        ids = [client.post("tools/call", {"name": "wait", "arguments": {"text": str(n)}}) for n in range(4)]
        trial.back()
        gate.set()
        found = {}
        while len(found) < 4:
            answer = await client.receive()
            found[answer["id"]] = answer["result"]["content"][0]["text"]
    assert [found[id] for id in ids] == ["0", "new 1", "2", "new 3"]


async def test_a_cancelled_call_and_one_that_takes_too_long_leave_nothing_behind(talk: Any) -> None:
    server = build()

    async def never(text: str) -> str:
        await asyncio.Event().wait()
        return text

    trial = server.candidate("wait", never, rules=HALF, sticky="call", timeout=0.01)
    trial.advance()
    assert trial.policy.state == DONE
    trial.back()
    trial.advance()
    async with talk(server, "2025-11-25") as client:
        await client.call("wait", {"text": "old"})
        error = await client.error("tools/call", {"name": "wait", "arguments": {"text": "x"}})
        assert "timed out" in error["message"]
        await client.call("wait", {"text": "old"})
        id = client.post("tools/call", {"name": "wait", "arguments": {"text": "x"}})
        client.notify("notifications/cancelled", {"requestId": id})
        await client.settle()
    assert trial.policy.new.count == trial.policy.new.error_count == 1


async def test_a_batch_holds_answers_of_both_stacks(talk: Any) -> None:
    server = build()
    server.rollout("sides", old=server.baseline(), tools=["echo"], rules=HALF, sticky="call")
    async with talk(server, "2025-03-26") as client:
        calls = [
            client.message("tools/call", {"name": name, "arguments": {"text": f"x{n}"}}, id=n)
            for n, name in enumerate(["echo", "echo", "wait", "echo"])
        ]
        client.send(calls)
        found = {item["id"]: item["result"]["content"][0]["text"] for item in await client.receive()}
    assert found == {0: "x0", 1: "x1", 2: "x2", 3: "x3"}


@pytest.mark.parametrize(
    ("give", "said"),
    [
        (lambda server: server.candidate("absent", new_which), "no tool of this name"),
        (lambda server: server.candidate("echo", new_which), "takes other arguments"),
        (lambda server: server.candidate("which", new_which, era="old"), "era is one of"),
        (lambda server: server.candidate("which", new_which, sticky="moon"), "sticky one of"),
        (lambda server: server.rollout("r", tools=["absent"]), "no tool 'absent'"),
        (lambda server: server.rollout("r", speed=3), "unknown option speed"),
        (lambda server: [server.candidate("which", new_which) for _ in range(2)], "under way already"),
        (
            lambda server: [server.rollout("a", tools=["which"]), server.candidate("which", new_which)],
            "on trial in 'a'",
        ),
        (lambda server: [server.rollout("a"), server.rollout("b")], "deals all conversations"),
    ],
)
def test_what_cannot_be_rolled_out_is_refused(give: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        give(build())


def test_a_candidate_may_be_given_by_a_decorator() -> None:
    server = build()

    @server.candidate("which", rules=HALF)
    async def other() -> str:
        return "new"

    assert asyncio.iscoroutinefunction(other)
    assert list(server.trials) == ["which"]
    with pytest.raises(KeyError):
        server.end_rollout("other")


# -- whole connections -----------------------------------------------------------------------------------------------


async def test_connections_are_dealt_to_the_two_stacks_and_stay_where_they_are() -> None:
    server = build()
    trial = server.rollout("stack", old=server.baseline(), rules=HALF)
    dealt: list[bool] = []
    async with server.running():
        for _ in range(20):
            said: list[bytes] = []
            link: Any = server.link(said.append)
            assert isinstance(link, WatchedLink)
            dealt.append(link._is_new)
            room = "_core" if link._is_new and core.IMPLEMENTATION == "core" else "_model"
            assert type(link.inbound).__module__ == f"erlmcp.{room}.corridor"
            link.feed(call_of(1, "echo", text="x") + call_of(2, "thread", a=1))
            async with asyncio.timeout(10):
                while len(b"".join(said).splitlines()) < 2:
                    await asyncio.sleep(0)
            answers = {message["id"]: message for message in map(json.loads, b"".join(said).splitlines())}
            assert answers[1]["result"]["content"][0]["text"] == "x"
            assert answers[2]["result"]["content"][0]["text"] == "2"
            link.close()
    old = dealt.count(False)
    assert 0 < old < 20
    assert (trial.policy.old.count, trial.policy.new.count) == (2 * old, 2 * (20 - old))


async def test_messages_of_a_read_count_each_are_timed_together_and_those_that_wait_by_themselves() -> None:
    server = build()
    ticks = itertools.count(0, 1000)
    trial = server.rollout("flags", new=of_phase("3"), rules=HALF, clock_ns=lambda: next(ticks))
    async with server.running():
        said: list[bytes] = []
        link: Any = trial.deal(said.append)
        side = trial.policy.new if link._is_new else trial.policy.old
        link.feed(b"".join(call_of(number, "echo", text="x") for number in range(10)))
        assert (side.count, side.error_count, side.times.count, side.times.max) == (10, 0, 1, 100)
        link.feed(call_of(1, "fail") + b"{\n" + call_of(2, "echo", text="x"))
        assert (side.count, side.error_count, side.times.count) == (13, 2, 2)
        link.feed(call_of(1, "wait", text="x") + call_of(2, "wait", text="y"))
        assert side.count == 13
        async with asyncio.timeout(10):
            while side.count < 15:
                await asyncio.sleep(0)
        assert (side.error_count, side.times.count) == (2, 4)
        link.feed(call_of(1, "wait", text="x") + call_of(2, "echo", text="y"))
        assert (side.count, side.times.count) == (16, 4)
        link.close()
        assert link._starts == {}


async def test_a_settled_roll_out_leaves_the_server_as_it_was() -> None:
    server = build()
    trial = server.rollout("stack", old=server.baseline(), rules=HALF)
    assert server.quick_route is None
    assert server.routes.method("tools/list") == trial.begin
    trial.advance()
    assert trial.policy.state == DONE
    assert server.quick_route is not None
    assert server.routes.method("tools/list") != trial.begin
    async with server.running():
        assert not isinstance(server.link(lambda _: None), WatchedLink)
        trial.back()  # The baseline is not the server's own way: it has to be kept up.
        link: Any = server.link(lambda _: None)
        assert isinstance(link, WatchedLink)
        assert type(link.inbound).__module__ == "erlmcp._model.corridor"
        link.close()
    server.end_rollout("stack")
    assert server.quick_route is not None
    del trial, link
    gc.collect()
    assert len(server.sides) == 0


async def test_a_connection_of_a_roll_out_that_was_taken_away_hears_of_tools_that_come_and_go() -> None:
    server = build()
    server.rollout("stack", old=server.baseline(), rules=Rules(shares=(1e-9, 1.0)))
    async with server.running():
        said: list[bytes] = []
        link: Any = server.link(said.append)
        assert type(link.inbound).__module__ == "erlmcp._model.corridor"
        server.end_rollout("stack")
        server.remove_tool("which")
        server.add_tool(new_which, name="later")
        link.feed(call_of(1, "later") + call_of(2, "which"))
        async with asyncio.timeout(10):
            while len(b"".join(said).splitlines()) < 2:
                await asyncio.sleep(0)
        answers = {message["id"]: message for message in map(json.loads, b"".join(said).splitlines())}
        assert answers[1]["result"]["content"][0]["text"] == "new"
        assert "Unknown tool" in answers[2]["error"]["message"]
        link.close()


async def test_requests_of_a_connection_that_was_there_before_are_dealt_too(talk: Any) -> None:
    server = build()
    async with talk(server) as client:
        trial = server.rollout("stack", old=server.baseline(), rules=HALF, sticky="call")
        for _ in range(4):
            assert await client.text("echo", {"text": "é"}) == "é"
            assert await client.text("wait", {"text": "é"}) == "é"
            assert len((await client.result("tools/list"))["tools"]) == 5
        assert "Unknown tool" in (await client.error("tools/call", {"name": "absent"}))["message"]
    assert trial.policy.old.count + trial.policy.new.count == 13
    assert trial.policy.old.count >= 6
    assert trial.policy.old.error_count + trial.policy.new.error_count == 1


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_only_connections_of_one_era_are_dealt(talk: Any, era: str) -> None:
    server = build()
    trial = server.rollout("era", old=server.baseline(), rules=HALF, era=era)
    async with server.running():
        for version in ("2026-07-28", "2025-11-25"):
            for _ in range(10):
                async with talk(server, version) as client:
                    assert isinstance(client.wire._link, FirstLink)
                    assert await client.text("echo", {"text": "x"}) == "x"
                    link = client.wire._link._link
                    is_meant = era == ("modern" if version == "2026-07-28" else "legacy")
                    assert isinstance(link, WatchedLink) is is_meant
    calls = 10 if era == "modern" else 30  # the handshake has two messages
    assert trial.policy.old.count + trial.policy.new.count == calls


async def test_a_first_message_may_come_in_pieces_and_one_that_never_ends_has_the_old_side() -> None:
    server = build()
    trial = server.rollout("era", rules=HALF, era="modern")
    async with server.running():
        said: list[bytes] = []
        link: Any = trial.link(said.append)
        for byte in b"\n" + call_of(1, "echo", text="x"):
            link.feed(bytes([byte]))
        assert json.loads(b"".join(said))["id"] == 1
        assert isinstance(link._link, WatchedLink)
        link.close()
        assert link.closed
        endless: Any = trial.link(said.append)
        endless.feed(b"x" * (server.limits.message_bytes_max + 1))
        assert not isinstance(endless._link, WatchedLink)
        endless.close()
        early: Any = trial.link(said.append)
        early.close()
        assert early.closed


async def test_in_the_shadow_connections_are_the_servers_own_and_copies_go_to_the_new_stack(talk: Any) -> None:
    server = build()

    @server.tool(annotations={"readOnlyHint": True})
    async def add(a: int, b: int) -> int:
        return a + b

    rules = Rules(shares=(0.5, 1.0), shadow_share=1.0, shadow_count=3)
    trial = server.rollout("stack", new=server.baseline(), rules=rules)
    assert trial.policy.state == SHADOW
    async with talk(server, "2025-11-25") as client:
        assert not isinstance(client.wire._link, WatchedLink)
        for number in range(3):
            assert await client.text("add", {"a": number, "b": 1}) == str(number + 1)
            assert await client.text("echo", {"text": "x"}) == "x"
            await client.settle()
    assert trial.policy.state == RUNNING
    assert trial.policy.wrong_count == 0


async def test_only_clients_of_one_era_are_on_trial_by_tool(talk: Any) -> None:
    server = build()
    trial = server.rollout("era", old=server.baseline(), tools=["echo"], era="legacy", rules=HALF, sticky="call")
    for version, count in (("2026-07-28", 0), ("2025-11-25", 4)):
        async with talk(server, version) as client:
            for _ in range(4):
                assert await client.text("echo", {"text": "é"}) == "é"
        assert trial.policy.old.count + trial.policy.new.count == count


@pytest.mark.parametrize("era", [None, "modern", "legacy"])
async def test_connections_of_a_socket_take_turns_on_either_side(era: str | None, tmp_path: Any) -> None:
    server = build()
    trial = server.rollout("stack", old=server.baseline(), rules=HALF, era=era)
    path = str(tmp_path / "s")
    async with unix(server, path):
        for mode in ("auto", "legacy"):
            async with Client(f"unix:{path}", mode=mode) as client:
                found = await client.call_many([("echo", {"text": "x" * 10})] * 600)
                assert {result.text for result in found} == {"x" * 10}
                assert (await client.call_tool("wait", {"text": "y"})).text == "y"
    seen = trial.policy.old.count + trial.policy.new.count
    assert seen >= (1200 if era is None else 600)
    assert seen < 1300


# -- over HTTP -------------------------------------------------------------------------------------------------------


async def ask(url: str, credential: str | None, mode: str, count: int = 4) -> set[str]:
    headers = {} if credential is None else {"Authorization": f"Bearer {credential}"}
    async with Client(url, headers=headers, mode=mode) as client:
        return {(await client.call_tool("which")).text for _ in range(count)}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_over_http_a_caller_is_known_by_its_credential(mode: str) -> None:
    server = build()
    server.candidate("which", new_which, rules=HALF)
    async with http(server) as listener:
        url = f"http://127.0.0.1:{listener.port}/mcp"
        first = [await ask(url, f"caller {number}", mode) for number in range(12)]
        again = [await ask(url, f"caller {number}", mode) for number in range(12)]
    assert first == again
    assert all(len(found) == 1 for found in first)
    assert {found for each in first for found in each} == {"old", "new"}


async def test_over_http_a_session_has_one_side_and_without_either_each_request_is_dealt() -> None:
    server = build()
    server.candidate("which", new_which, rules=HALF, sticky="session")
    async with http(server) as listener:
        url = f"http://127.0.0.1:{listener.port}/mcp"
        sessions = [await ask(url, "one", "legacy") for _ in range(16)]
        single = await ask(url, "one", "auto")
    assert all(len(found) == 1 for found in sessions)
    assert {found for each in sessions for found in each} == {"old", "new"}
    assert single == {"old", "new"}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_over_http_requests_are_handled_by_either_stack(mode: str) -> None:
    server = build()
    trial = server.rollout("stack", old=server.baseline(), rules=HALF, sticky="call")
    async with http(server) as listener, Client(f"http://127.0.0.1:{listener.port}/mcp", mode=mode) as client:
        for _ in range(4):
            assert (await client.call_tool("echo", {"text": "é"})).text == "é"
            assert (await client.call_tool("wait", {"text": "é"})).text == "é"
            assert (await client.call_tool("thread", {"a": 1})).text == "2"
            assert len(await client.list_tools()) == 5
            with pytest.raises(ToolError):
                await client.call_tool("fail")
    seen = trial.policy
    assert seen.old.count + seen.new.count >= 17
    assert abs(seen.old.count - seen.new.count) <= 1
    assert seen.old.error_count + seen.new.error_count == 4


async def test_the_log_says_each_step_with_its_reason(talk: Any, caplog: pytest.LogCaptureFixture) -> None:
    server = build()
    trial = server.candidate("which", new_which)
    with caplog.at_level("WARNING", logger="erlmcp.rollout"):
        trial.advance("because")
        trial.advance("and on")
        trial.back("enough")
    assert [record.getMessage() for record in caplog.records] == [
        "rollout which: forward, share 0.5: because",
        "rollout which: forward, share 1: and on",
        "rollout which: back, share 0: enough",
    ]


async def test_a_call_on_trial_leaves_nothing_for_the_collector() -> None:
    server = build()
    server.candidate("which", new_which, rules=HALF, sticky="call")
    async with server.running():
        link = server.link(lambda _: None)
        data = b"".join(call_of(number, "which") for number in range(50))
        link.feed(data)
        gc.collect()
        gc.disable()
        try:
            link.feed(data)
            assert gc.collect() == 0
        finally:
            gc.enable()
        link.close()
