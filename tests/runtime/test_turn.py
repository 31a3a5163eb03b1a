"""Whose turn it is: fairness between connections, the order within one, and what passes it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erlmcp import Flags, Limits, Server
from erlmcp.runtime.link import OVERTAKE_MAX, Link
from erlmcp.runtime.quick import Budget, PlainBudget
from erlmcp.runtime.turn import QUANTUM

LEGACY, MODERN = "2025-11-25", "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
AGES_S = 3600.0  # a budget of time that nothing spends


class Peer:
    """A client's end, with a reading side that can be paused."""

    def __init__(self, server: Server, version: str = LEGACY, *, paced: bool = True) -> None:
        self.version = version
        self.is_reading = True
        self.pauses = 0
        self.writes: list[bytes] = []
        self.link: Link = server.link(self.writes.append)
        if paced:
            self.link.pace(self)
        if version == LEGACY:
            params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
            self.feed(self.request("hello", "initialize", params))
        else:
            self.feed(self.request("hello", "server/discover", {}))
        self.writes.clear()

    def pause(self) -> None:
        self.is_reading = False
        self.pauses += 1

    def resume(self) -> None:
        self.is_reading = True

    def request(self, id: Any, method: str, params: dict[str, Any] | None = None) -> bytes:
        params = dict(params or {})
        if self.version == MODERN:
            params["_meta"] = META
        return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode() + b"\n"

    def call(self, id: Any, tool: str = "mark") -> bytes:
        return self.request(id, "tools/call", {"name": tool, "arguments": {"id": id}})

    def urgent(self, id: Any) -> bytes:
        return self.request(id, "ping" if self.version == LEGACY else "server/discover")

    def cancel(self, id: Any) -> bytes:
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}
        return json.dumps(note).encode() + b"\n"

    def feed(self, *messages: bytes) -> None:
        assert self.is_reading
        self.link.feed(b"".join(messages))

    def take(self) -> list[Any]:
        """The ids of the answers that have come, in their order."""
        lines = b"".join(self.writes).splitlines()
        self.writes.clear()
        answers = [json.loads(line) for line in lines]
        return [answer["id"] for answer in answers if answer.get("id") not in (None, "hello")]


@contextlib.asynccontextmanager
async def serving(
    count: int = 4, *, time_s: float = AGES_S, flags: Flags | None = None, **limits: float
) -> AsyncIterator[Server]:
    server = Server("s", limits=Limits.load(turn_count_max=count, turn_time_s=time_s, **limits), flags=flags)
    ran: list[Any] = []
    server.ran = ran  # type: ignore[attr-defined]
    gate = asyncio.Event()
    server.gate = gate  # type: ignore[attr-defined]

    @server.tool
    async def mark(id: str | int) -> str:
        ran.append(id)
        return str(id)

    @server.tool
    async def wait(id: str | int) -> str:
        ran.append(id)
        await gate.wait()
        return str(id)

    @server.tool(priority="critical")
    async def alarm(id: str | int) -> str:
        ran.append(id)
        return str(id)

    async with server.running():
        yield server
        for _ in range(3):
            await asyncio.sleep(0)
        assert not len(server.turn)


async def turns(count: int = 1) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# -- the budget --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Budget, PlainBudget])
def test_a_budget_is_spent_by_messages_or_by_time_and_a_new_turn_begins_it_anew(kind: Any) -> None:
    budget = kind(3, AGES_S)
    budget.begin()
    for _ in range(2):
        budget.add()
    assert (budget.count, budget.is_spent) == (2, False)
    budget.add()
    assert budget.is_spent
    budget.end()
    budget.reset()
    assert (budget.count, budget.is_spent) == (0, False)
    slow = kind(1_000_000, 1e-9)
    slow.begin()
    slow.end()
    assert slow.is_spent


@pytest.mark.parametrize("kind", [Budget, PlainBudget])
def test_the_clock_is_looked_at_within_a_long_stretch_of_work(kind: Any) -> None:
    budget = kind(1_000_000, 1e-9)
    budget.begin()
    for _ in range(16):
        budget.add()
    assert budget.is_spent


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_what_the_budget_does_not_reach_is_handled_in_the_next_turns_in_its_order(version: str) -> None:
    async with serving(4) as server:
        peer = Peer(server, version)
        peer.feed(*(peer.call(id) for id in range(30)))
        seen = [peer.take()]
        assert seen[0]
        assert len(seen[0]) <= 4
        while peer.link.backlog:
            await turns()
            seen.append(peer.take())
        assert [id for each in seen for id in each] == [*range(30)]
        assert max(map(len, seen)) <= 5
        peer.link.close()


async def test_time_ends_a_turn_as_well_as_the_count_does() -> None:
    async with serving(1_000_000, time_s=1e-9) as server:
        peer = Peer(server)
        await turns(2)
        peer.feed(*(peer.call(id) for id in range(300)))
        assert 0 < len(peer.link.backlog) < 300
        await turns(600)
        assert peer.take() == [*range(300)]
        peer.link.close()


async def test_connections_take_turns_whatever_each_has_waiting() -> None:
    async with serving(QUANTUM) as server:
        greedy, modest = Peer(server), Peer(server)
        greedy.feed(*(greedy.call(n) for n in range(200)))
        modest.feed(*(modest.call(1000 + n) for n in range(3)))
        await turns(2)
        assert [id for id in server.ran if id >= 1000] == [1000, 1001, 1002]  # type: ignore[attr-defined]
        assert len(greedy.link.backlog) > 90
        await turns(20)
        assert greedy.take() == [*range(200)]
        assert modest.take() == [1000, 1001, 1002]
        for each in (greedy, modest):
            each.link.close()


async def test_a_link_that_cannot_stop_reading_handles_all_of_a_read_at_once() -> None:
    async with serving(4) as server:
        peer = Peer(server, paced=False)
        peer.feed(*(peer.call(id) for id in range(30)))
        assert peer.take() == [*range(30)]
        peer.link.close()


# -- reading pauses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [{"backlog_count_max": 10}, {"backlog_bytes_max": 2000}])
async def test_reading_pauses_while_much_waits_and_goes_on_when_nothing_does(limits: dict[str, float]) -> None:
    async with serving(2, **limits) as server:
        peer = Peer(server)
        peer.feed(*(peer.call(id) for id in range(5)))
        assert peer.is_reading
        peer.feed(*(peer.call(id) for id in range(5, 30)))
        assert not peer.is_reading
        while peer.link.backlog:
            assert not peer.is_reading
            await turns()
        assert peer.is_reading
        assert peer.pauses == 1
        assert peer.take() == [*range(30)]
        peer.link.close()


async def test_nothing_is_handled_for_a_peer_that_does_not_read() -> None:
    async with serving(2) as server:
        peer = Peer(server)
        peer.feed(*(peer.call(id) for id in range(10)))
        peer.link.hold(True)
        before = len(server.ran)  # type: ignore[attr-defined]
        peer.link.feed(peer.call(10))
        await turns(10)
        assert len(server.ran) == before  # type: ignore[attr-defined]
        peer.link.hold(False)
        await turns(10)
        assert peer.take() == [*range(11)]
        peer.link.close()


async def test_a_connection_that_closes_with_calls_waiting_leaves_nothing() -> None:
    async with serving(2) as server:
        peer, other = Peer(server), Peer(server)
        peer.feed(*(peer.call(id) for id in range(50)))
        before = len(server.ran)  # type: ignore[attr-defined]
        peer.link.close()
        other.feed(*(other.call(id) for id in range(100, 103)))
        await turns(5)
        assert server.ran[before:] == [100, 101, 102]  # type: ignore[attr-defined]
        assert not peer.link.backlog
        other.link.close()


async def test_a_handler_that_closes_its_own_connection_ends_what_waits_on_it() -> None:
    async with serving(1) as server:
        peer = Peer(server)

        @server.tool
        async def leave(id: int) -> str:
            peer.link.close()
            return "gone"

        peer.feed(peer.call(1), peer.call(2, "leave"), *(peer.call(id) for id in range(3, 9)))
        await turns(9)
        assert [id for id in server.ran if id > 1] == []  # type: ignore[attr-defined]
        assert not peer.link.backlog


async def test_the_end_of_the_input_finds_what_waits_answered() -> None:
    async with serving(2) as server:
        peer = Peer(server)
        peer.feed(*(peer.call(id) for id in range(40)))
        peer.link.finish()
        assert peer.take() == [*range(40)]
        peer.link.close()


# -- what is critical --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [LEGACY, MODERN])
@pytest.mark.parametrize("paced", [True, False])
async def test_critical_messages_of_a_read_are_answered_before_the_calls_they_came_after(
    version: str, paced: bool
) -> None:
    async with serving(4) as server:
        peer = Peer(server, version, paced=paced)
        peer.feed(*(peer.call(id) for id in range(8)), peer.urgent("u"), peer.call(8), peer.call("a", "alarm"))
        first = peer.writes[0].splitlines()
        assert [json.loads(line)["id"] for line in first[:2]] == ["u", "a"]
        await turns(9)
        assert peer.take() == ["u", "a", *range(9)]
        peer.link.close()


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_a_critical_message_does_not_wait_for_what_came_in_earlier_reads(version: str) -> None:
    async with serving(2) as server:
        peer, other = Peer(server, version), Peer(server, version)
        peer.feed(*(peer.call(id) for id in range(20)))
        peer.take()
        waiting = len(peer.link.backlog)
        peer.feed(peer.urgent("own"))
        other.feed(other.urgent("other"))
        assert (peer.take(), other.take()) == (["own"], ["other"])
        assert len(peer.link.backlog) == waiting
        await turns(15)
        for each in (peer, other):
            each.link.close()


async def test_with_the_flag_off_every_message_keeps_its_place() -> None:
    async with serving(4, flags=Flags(priority_messages=False)) as server:
        peer = Peer(server)
        peer.feed(*(peer.call(id) for id in range(6)), peer.urgent("u"), peer.call(6))
        await turns(9)
        assert peer.take() == [*range(6), "u", 6]
        peer.link.close()


async def test_the_flag_may_change_while_the_server_runs() -> None:
    async with serving(4) as server:
        peer = Peer(server)
        server.flags = Flags(priority_messages=False)
        peer.feed(peer.call(1), peer.urgent("u"))
        server.flags = Flags()
        peer.feed(peer.call(2), peer.urgent("v"))
        await turns(3)
        assert peer.take() == [1, "u", "v", 2]
        peer.link.close()


async def test_no_limit_of_calls_in_flight_refuses_what_is_critical() -> None:
    async with serving(9, inflight_count_max=1) as server:
        peer = Peer(server)
        peer.feed(peer.call("w", "wait"))
        peer.feed(peer.call("refused"), peer.urgent("u"), peer.call("a", "alarm"))
        answers = {answer["id"]: answer for answer in map(json.loads, b"".join(peer.writes).splitlines())}
        assert answers["refused"]["error"]["code"] == -32000
        assert "result" in answers["u"]
        assert "result" in answers["a"]
        peer.link.close()


async def test_critical_answers_pass_those_that_wait_for_a_peer_to_read() -> None:
    async with serving(9) as server:
        peer = Peer(server)
        peer.feed(*(peer.call(id, "wait") for id in range(3)))
        peer.link.hold(True)
        server.gate.set()  # type: ignore[attr-defined]
        await turns(4)
        assert peer.writes == []
        peer.link.feed(peer.call(3) + peer.urgent("u"))
        assert peer.take() == ["u"]
        peer.link.hold(False)
        await turns(2)
        assert peer.take() == [0, 1, 2, 3]
        peer.link.close()


async def test_much_that_waits_for_a_peer_is_handed_on_to_where_it_is_counted() -> None:
    async with serving(9, outbox_bytes_max=4000) as server:
        peer = Peer(server)
        peer.link.hold(True)
        for number in range(40):
            peer.link.notify("notifications/message", {"level": "info", "data": number})
            await turns()
        assert peer.writes
        peer.link.close()


async def test_nothing_passes_before_the_conversation_has_found_its_era() -> None:
    async with serving(9) as server:
        writes: list[bytes] = []
        link = server.link(writes.append)
        talk = Peer(server, MODERN)
        legacy = Peer(server)
        link.feed(talk.call(1) + legacy.urgent("u") + talk.call(2))
        ids = [json.loads(line)["id"] for line in b"".join(writes).splitlines()]
        assert ids == [1, "u", 2]
        for each in (link, talk.link, legacy.link):
            each.close()


async def test_initialize_keeps_its_place() -> None:
    async with serving(9) as server:
        peer = Peer(server)
        peer.feed(peer.call(1), peer.request("again", "initialize", {}))
        assert peer.take() == [1, "again"]
        peer.link.close()


# -- cancellations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_a_cancellation_takes_back_a_call_that_waits_for_its_turn(version: str) -> None:
    async with serving(2) as server:
        peer = Peer(server, version)
        peer.feed(*(peer.call(id) for id in range(10)))
        peer.feed(peer.cancel(7), peer.call(10), peer.call(11), peer.cancel(10))
        await turns(9)
        assert peer.take() == [0, 1, 2, 3, 4, 5, 6, 8, 9, 11]
        assert 7 not in server.ran  # type: ignore[attr-defined]
        assert 10 not in server.ran  # type: ignore[attr-defined]
        peer.link.close()


async def test_a_cancellation_does_not_strike_a_later_call_with_the_same_id() -> None:
    async with serving(2) as server:
        peer = Peer(server)
        peer.feed(peer.call(0), peer.call(1), peer.call(2), peer.call(3))
        peer.feed(peer.cancel(3), peer.call(3))
        await turns(5)
        assert peer.take() == [0, 1, 2, 3]
        peer.link.close()


async def test_a_cancellation_reaches_a_call_that_runs_while_others_wait() -> None:
    async with serving(2) as server:
        peer = Peer(server)
        peer.feed(peer.call("w", "wait"))
        peer.feed(*(peer.call(id) for id in range(8)))
        peer.feed(peer.cancel("w"))
        await turns(9)
        assert peer.take() == [*range(8)]
        assert not peer.link.session.inflight
        peer.link.close()


async def test_a_cancellation_whose_call_may_wait_in_an_array_waits_behind_it() -> None:
    async with serving(2) as server:
        peer = Peer(server)
        peer.link.session.connection.version = "2025-03-26"
        array = b"[%s,%s]\n" % (peer.call("x", "wait").strip(), peer.call("y").strip())
        peer.feed(peer.call(0), peer.call(1), peer.call(2), array, peer.cancel("x"))
        await turns(9)
        found = b"".join(peer.writes)
        assert b'"y"' in found
        assert b'"x"' not in found
        assert not peer.link.session.inflight
        peer.link.close()


@pytest.mark.parametrize("raw", [b"null", b"true", b"[1]", b"{}"])
async def test_a_cancellation_that_names_nothing_changes_nothing(raw: bytes) -> None:
    async with serving(2) as server:
        peer = Peer(server)
        note = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%b}}\n' % raw
        peer.feed(*(peer.call(id) for id in range(6)), note)
        await turns(5)
        assert peer.take() == [*range(6)]
        peer.link.close()


# -- crowds ------------------------------------------------------------------------------------------------------------


async def test_a_crowd_of_pings_has_its_turn_like_every_other_crowd() -> None:
    async with serving(QUANTUM) as server:
        peer, other = Peer(server), Peer(server)
        peer.feed(*(peer.urgent(id) for id in range(2000)))
        assert len(peer.link.backlog) > 1900
        assert not peer.is_reading
        other.feed(other.call("x"))
        await turns(3)
        assert other.take() == ["x"]
        assert len(peer.link.backlog) > 1500
        await turns(100)
        assert peer.take() == [*range(2000)]
        for each in (peer, other):
            each.link.close()


async def test_more_critical_messages_than_may_pass_in_a_read_keep_their_places() -> None:
    async with serving(1000) as server:
        peer = Peer(server)
        peer.feed(peer.call("c"), *(peer.urgent(id) for id in range(OVERTAKE_MAX + 1)))
        assert peer.take() == ["c", *range(OVERTAKE_MAX + 1)]
        peer.feed(peer.call("c"), *(peer.urgent(id) for id in range(OVERTAKE_MAX)))
        assert peer.take() == [*range(OVERTAKE_MAX), "c"]
        peer.link.close()


async def test_thousands_of_cancellations_of_unknown_ids_harm_nobody() -> None:
    async with serving(QUANTUM) as server:
        peer = Peer(server)
        peer.feed(*(peer.call(id) for id in range(50)))
        for start in range(0, 3000, 10):
            while not peer.is_reading:
                await turns()
            peer.feed(*(peer.cancel(10_000 + start + n) for n in range(10)))
        while not peer.is_reading:
            await turns()
        peer.feed(*(peer.cancel(20_000 + n) for n in range(5000)))
        await turns(200)
        assert peer.take() == [*range(50)]
        peer.link.close()


# -- anything ----------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.sampled_from(["mark", "mark", "mark", "wait", "alarm"])),
        st.tuples(st.just("urgent"), st.none()),
        st.tuples(st.just("cancel"), st.integers(0, 60)),
        st.tuples(st.just("cut"), st.none()),  # the read ends here
        st.tuples(st.just("turn"), st.integers(1, 3)),
    ),
    max_size=60,
)


class Account:
    """What one connection sent, and what it is owed."""

    def __init__(self, peer: Peer, number: int) -> None:
        self.peer, self.number = peer, number
        self.sent: list[tuple[str, str]] = []  # (id, what)
        self.buffer: list[bytes] = []
        self.cancels: list[str] = []
        self.forbidden: set[str] = set()  # taken back before they ran
        self.got: list[Any] = []

    def add(self, kind: str, value: Any) -> None:
        id = f"{self.number}-{len(self.sent)}"
        if kind == "cancel":
            if not self.sent:
                return
            target, what = self.sent[value % len(self.sent)]
            if what != "urgent":
                self.buffer.append(self.peer.cancel(target))
                self.cancels.append(target)
            return
        self.buffer.append(self.peer.call(id, value) if kind == "call" else self.peer.urgent(id))
        self.sent.append((id, value if kind == "call" else "urgent"))

    async def cut(self, ran: list[Any]) -> None:
        while not self.peer.is_reading:
            await asyncio.sleep(0)
        if not self.buffer:
            return
        tools = dict(self.sent)
        # Whatever has not begun when its cancellation is read never begins, but what passes others is too quick.
        here = [each for each in self.cancels if each not in ran and tools[each] != "alarm"]
        crowd = sum(b"tools/call" not in each or b'"alarm"' in each for each in self.buffer) > OVERTAKE_MAX
        self.peer.feed(*self.buffer)
        if not crowd:
            self.forbidden.update(here)
        self.buffer.clear()
        self.cancels.clear()

    def check(self, ran: list[Any]) -> None:
        assert not self.forbidden & set(ran)
        cancelled = {id for id, _ in self.sent} - set(self.got)
        assert len(self.got) == len(set(self.got)), "answered twice"
        places = {id: place for place, (id, what) in enumerate(self.sent) if what == "mark"}
        order = [places[id] for id in self.got if id in places]
        assert order == sorted(order)
        assert not self.peer.link.session.inflight
        self.unanswered = cancelled


async def converse(versions: list[str], scripts: list[list[Any]], count: int, backlog: int, flags: Flags) -> None:
    async with serving(count, backlog_count_max=backlog, flags=flags) as server:
        ran: list[Any] = server.ran  # type: ignore[attr-defined]
        accounts = [Account(Peer(server, version), n) for n, version in enumerate(versions)]
        await turns(9)
        asked: list[set[str]] = [set() for _ in accounts]
        for step in range(max(map(len, scripts))):
            for n, account in enumerate(accounts):
                if step >= len(scripts[n]):
                    continue
                kind, value = scripts[n][step]
                if kind == "turn":
                    await turns(value)
                elif kind == "cut":
                    await account.cut(ran)
                else:
                    account.add(kind, value)
                asked[n].update(account.cancels)
        for account in accounts:
            await account.cut(ran)
        server.gate.set()  # type: ignore[attr-defined]
        await turns(200)
        for n, account in enumerate(accounts):
            account.got = account.peer.take()
            account.check(ran)
            assert account.unanswered <= asked[n], "an answer was lost"
            account.peer.link.close()


@pytest.mark.parametrize("priority", [True, False])
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    versions=st.lists(st.sampled_from([LEGACY, MODERN]), min_size=1, max_size=3),
    scripts=st.lists(STEPS, min_size=3, max_size=3),
    count=st.integers(1, 6),
    backlog=st.integers(1, 12),
)
def test_every_request_is_answered_once_in_order_and_no_cancellation_is_lost(
    run: Callable[..., Any], priority: bool, versions: list[str], scripts: list[list[Any]], count: int, backlog: int
) -> None:
    flags = Flags(priority_messages=priority)
    if priority:
        run(lambda: converse(versions, scripts, count, backlog, flags))
        return
    # Without priority a cancellation keeps its place, and what it names may have begun by then.
    original = Account.cut

    async def cut(self: Account, ran: list[Any]) -> None:
        await original(self, ran)
        self.forbidden.clear()

    Account.cut = cut  # type: ignore[method-assign]
    try:
        run(lambda: converse(versions, scripts, count, backlog, flags))
    finally:
        Account.cut = original  # type: ignore[method-assign]
