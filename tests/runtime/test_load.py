"""What a server refuses when it cannot keep up, by whose limit, and that it takes calls again afterwards."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from erlmcp import ConfigurationError, Context, Flags, Limits, Server
from erlmcp.policy.gradient import GradientSize
from erlmcp.policy.inflight import InflightSize
from erlmcp.runtime import load, turn

MODERN = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
MS_NS = 1_000_000


class Clock:
    """In the place of the module ``time``."""

    def __init__(self) -> None:
        self.now_ns = 10**12

    def monotonic_ns(self) -> int:
        return self.now_ns

    def pass_ms(self, ms: float) -> None:
        self.now_ns += int(ms * MS_NS)


@pytest.fixture(autouse=True)  # however busy the machine is, no time passes that a test does not let pass
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(load, "time", made)
    monkeypatch.setattr(turn, "time", made)
    return made


class House:
    """A server with tools of each lane, and clients of it."""

    def __init__(self, *, flags: Flags | None = None, admission: str = "gradient", **limits: float) -> None:
        # However busy the machine is, nothing waits for its turn that would not on an idle one.
        found = Limits.load(**{"turn_time_s": 60.0, **limits})
        self.server = Server("s", limits=found, flags=flags, admission=admission)
        self.gate = asyncio.Event()
        self.levels: list[int] = []

        @self.server.tool
        async def wait() -> str:
            await self.gate.wait()
            return "waited"

        @self.server.tool
        async def normal() -> str:
            return "normal"

        @self.server.tool(priority="bulk")
        async def bulk() -> str:
            return "bulk"

        @self.server.tool(priority="critical")
        async def alarm() -> str:
            return "alarm"

        @self.server.tool(priority="critical")
        async def level(ctx: Context) -> str:
            self.levels.append(ctx.overload)
            return "seen"


class Peer:
    def __init__(self, server: Server) -> None:
        self.writes: list[bytes] = []
        self.link = server.link(self.writes.append)
        self.link.pace(self)
        self.count = 0

    def pause(self) -> None: ...
    def resume(self) -> None: ...

    def call(self, *tools: str) -> None:
        lines = []
        for tool in tools:
            params = {"name": tool, "arguments": {}, "_meta": META}
            self.count += 1
            lines.append({"jsonrpc": "2.0", "id": f"{tool}-{self.count}", "method": "tools/call", "params": params})
        self.link.feed(b"".join(json.dumps(line).encode() + b"\n" for line in lines))

    def take(self) -> list[Any]:
        found = [json.loads(line) for line in b"".join(self.writes).splitlines()]
        self.writes.clear()
        return found

    def kinds(self) -> list[tuple[str, str]]:
        """(tool, "ok" or the limit that refused it) of the answers that came."""
        return [
            (answer["id"].split("-")[0], "ok" if "result" in answer else answer["error"]["message"].split("=")[0])
            for answer in self.take()
        ]


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


FULL = "Server busy: total_inflight_count_max"
LATE = "Server busy: queue_delay_max_s"
CROWDED = "Server busy: thread_queue_max"


async def test_calls_in_flight_are_limited_over_all_connections_and_critical_ones_are_not() -> None:
    house = House(total_inflight_count_max=3)
    async with house.server.running():
        one, two = Peer(house.server), Peer(house.server)
        one.call("wait", "wait")
        two.call("wait")
        two.call("wait", "normal", "alarm")
        assert sorted(two.kinds()) == [("alarm", "ok"), ("normal", FULL), ("wait", FULL)]
        assert house.server.turn.load.inflight == 3
        house.gate.set()
        await turns(6)
        assert house.server.turn.load.inflight == 0
        two.call("normal")
        assert [kind for kind in two.kinds() if kind[0] == "normal"] == [("normal", "ok")]
        for each in (one, two):
            each.link.close()


async def test_a_refusal_says_when_to_come_back() -> None:
    house = House(total_inflight_count_max=1)
    async with house.server.running():
        peer = Peer(house.server)
        peer.call("wait", "normal")
        (answer,) = peer.take()
        assert answer["error"] == {
            "code": -32000,
            "message": "Server busy: total_inflight_count_max=1 or fewer may be in flight",
            "data": {"retryAfterMs": 1000},
        }
        assert house.server.turn.load.shed_count == 1
        peer.link.close()


async def test_calls_that_are_cancelled_or_lost_are_in_flight_no_more() -> None:
    house = House()
    async with house.server.running():
        peer = Peer(house.server)
        peer.call("wait", "wait", "wait")
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "wait-1"}}
        peer.link.feed(json.dumps(note).encode() + b"\n")
        assert house.server.turn.load.inflight == 2
        peer.link.close()
        assert house.server.turn.load.inflight == 0
        await turns()


async def test_without_the_flag_nothing_is_refused() -> None:
    house = House(total_inflight_count_max=1, flags=Flags(backpressure=False))
    async with house.server.running():
        peer = Peer(house.server)
        peer.call("wait", "wait", "normal", "bulk")
        house.gate.set()
        await turns(6)
        assert sorted(peer.kinds()) == [("bulk", "ok"), ("normal", "ok"), ("wait", "ok"), ("wait", "ok")]
        peer.link.close()


async def crowd(house: House, clock: Clock, delay_ms: float, seconds: float) -> Peer:
    """Keep something waiting for ``delay_ms`` of a clock for so long, as the line of a busy server would be."""
    peer = Peer(house.server)
    for _ in range(int(seconds * 1000 / delay_ms)):
        peer.call(*["normal"] * 4)
        clock.pass_ms(delay_ms)
        while peer.link.backlog:
            await turns(1)
    return peer


@pytest.mark.parametrize(
    ("delay_ms", "level", "refused"),
    [(40, 0, set()), (60, 1, set()), (80, 2, {"bulk"}), (120, 3, {"bulk", "normal"})],
)
async def test_lanes_are_refused_by_how_long_work_waits_bulk_first_and_critical_never(
    clock: Clock, delay_ms: float, level: int, refused: set[str]
) -> None:
    house = House(turn_count_max=1, turn_time_s=60, queue_delay_max_s=0.1)
    async with house.server.running():
        busy = await crowd(house, clock, delay_ms, 3)
        assert house.server.overload == level
        busy.take()
        busy.call("normal", "bulk", "alarm", "level")
        clock.pass_ms(delay_ms)
        await turns(5)
        assert set(busy.kinds()) == {
            (tool, LATE if tool in refused else "ok") for tool in ("normal", "bulk", "alarm", "level")
        }
        assert house.levels == [level]
        busy.link.close()


async def test_a_server_that_catches_up_takes_everything_again(clock: Clock) -> None:
    house = House(turn_count_max=1, turn_time_s=60, queue_delay_max_s=0.1)
    async with house.server.running():
        peer = await crowd(house, clock, 200, 3)
        assert house.server.overload == 3
        for _ in range(40):
            clock.pass_ms(100)
            house.server.turn.load.look()
        assert house.server.overload == 0
        peer.take()
        peer.call("bulk", "normal")
        await turns()
        assert peer.kinds() == [("bulk", "ok"), ("normal", "ok")]
        peer.link.close()


async def test_room_that_becomes_free_is_given_away_at_once_and_not_at_the_next_tick(clock: Clock) -> None:
    house = House(total_inflight_count_max=4)
    async with house.server.running():
        peer = Peer(house.server)
        peer.call(*["wait"] * 4)
        for _ in range(100):
            clock.pass_ms(10)
            house.server.turn.load.look()
        assert house.server.overload == 3
        peer.call("normal")
        assert peer.kinds() == [("normal", FULL)]
        clock.pass_ms(10)
        house.gate.set()
        await turns(6)
        assert peer.kinds() == [("wait", "ok")] * 4
        peer.call("normal")
        assert peer.kinds() == [("normal", "ok")]
        peer.link.close()


async def test_a_refusal_names_the_limit_that_is_near(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(total_inflight_count_max=4)
    async with house.server.running():
        found, peer = house.server.turn.load, Peer(house.server)
        for held, refused in ((3, FULL), (0, CROWDED)):  # neither limit is reached, both are near
            peer.call(*["wait"] * held)
            threads = 0 if held else house.server.limits.thread_count_max + house.server.limits.thread_queue_max - 1
            monkeypatch.setattr(type(house.server.lanes), "__len__", lambda _, count=threads: count)
            for _ in range(100):
                clock.pass_ms(10)
                found.look()
            peer.call("bulk")
            assert peer.kinds() == [("bulk", refused)]
            house.gate.set()
            await turns(6)
            peer.take()
        peer.link.close()


async def test_a_loop_that_is_held_up_counts_like_a_line(clock: Clock) -> None:
    house = House(queue_delay_max_s=0.1)
    async with house.server.running():
        for _ in range(40):
            clock.pass_ms(20)
            house.server.turn.load.look(0.2)
        assert house.server.overload == 3
        peer = Peer(house.server)
        peer.call("bulk", "normal", "alarm")
        assert sorted(peer.kinds()) == [("alarm", "ok"), ("bulk", LATE), ("normal", LATE)]
        peer.link.close()


def test_admission_goes_by_a_gradient_by_steps_or_not_at_all() -> None:
    assert isinstance(load.make_size("gradient", 4, 100), GradientSize)
    assert isinstance(load.make_size("aimd", 4, 100), InflightSize)
    fixed = load.make_size("fixed", 4, 100)
    for step in range(100):
        fixed.answered(step, 10**step, is_full=True)
    assert fixed.limit == 100
    with pytest.raises(ConfigurationError, match="admission must be one of gradient, aimd, fixed, got 'guess'"):
        Server("s", admission="guess")


async def test_calls_that_take_longer_and_longer_lower_the_limit_and_each_tool_has_its_own_measure(
    clock: Clock,
) -> None:
    house = House(total_inflight_count_min=2, total_inflight_count_max=40)
    async with house.server.running():
        found = house.server.turn.load

        async def answer_after(ms: float) -> int:
            peer = Peer(house.server)
            peer.call(*["wait"] * 30)
            clock.pass_ms(ms)
            found.look()
            house.gate.set()
            await turns(6)
            house.gate.clear()
            peer.link.close()
            return found.inflight_max

        steady = [await answer_after(10) for _ in range(20)]
        assert set(steady) == {40}
        slower = [await answer_after(100) for _ in range(10)]
        assert slower[-1] < 30
        assert found.inflight == 0


async def test_a_call_that_takes_much_too_long_lowers_the_limit_before_it_ends(clock: Clock) -> None:
    house = House(total_inflight_count_min=2, total_inflight_count_max=400)
    async with house.server.running():
        found, peer = house.server.turn.load, Peer(house.server)
        for _ in range(5):
            peer.call(*["wait"] * 10)
            clock.pass_ms(10)
            found.look()
            house.gate.set()
            await turns(6)
            house.gate.clear()
        clock.pass_ms(10)
        found.look()
        assert found.inflight_max == 400
        peer.call(*["wait"] * 20)
        clock.pass_ms(20)
        found.look()
        assert found.inflight_max == 400
        clock.pass_ms(20)
        found.look()
        assert found.inflight == 20
        assert found.inflight_max < 40
        peer.link.close()


async def test_calls_that_were_given_up_teach_nothing_of_how_quick_a_tool_is(clock: Clock) -> None:
    house = House(total_inflight_count_min=2, total_inflight_count_max=400)
    async with house.server.running():
        found, peer = house.server.turn.load, Peer(house.server)

        async def answer_some() -> None:
            for _ in range(5):
                peer.call(*["wait"] * 10)
                clock.pass_ms(10)
                found.look()
                house.gate.set()
                await turns(6)
                house.gate.clear()

        await answer_some()
        clock.pass_ms(10)
        found.look()
        peer.call(*["wait"] * 10)
        for number in range(peer.count - 9, peer.count + 1):
            note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": f"wait-{number}"}}
            peer.link.feed(json.dumps(note).encode() + b"\n")
        assert found.inflight == 0
        await answer_some()
        assert found.inflight_max == 400
        peer.link.close()


def test_arrivals_tell_when_the_oldest_came(clock: Clock) -> None:
    arrivals = turn.Arrivals()
    assert arrivals.since_ns == 0
    came = []
    for count in (3, 3, 5):  # three, none more, two more
        arrivals.settle(count)
        came.append(clock.now_ns)
        clock.pass_ms(1)
    assert arrivals.since_ns == came[0]
    arrivals.settle(3)
    assert arrivals.since_ns == came[0]
    arrivals.settle(2)
    assert arrivals.since_ns == came[2]
    arrivals.settle(0)
    assert arrivals.since_ns == 0


def test_what_comes_in_the_stead_of_what_had_its_turn_is_not_as_old(clock: Clock) -> None:
    """A connection that always has something waiting is not late for that: each message waits a while only."""
    arrivals = turn.Arrivals()
    arrivals.settle(10)
    for _ in range(20):
        clock.pass_ms(1)
        arrivals.settle(5)
        arrivals.settle(10)
    assert clock.now_ns - arrivals.since_ns <= 1_000_000
