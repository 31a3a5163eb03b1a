"""The limit of what is in flight on a byte stream, as it follows the latency: a pipe without a socket, a clock that a
test sets."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from erlmcp import CallTimeoutError, Flags
from erlmcp.client.bound import ClientLimits
from erlmcp.client.channel import Request
from erlmcp.client.pipe import Pipe

MS_NS = 1_000_000


class Front:
    def received(self, call: Any) -> None: ...

    def lost(self, error: Exception) -> None: ...


class Wire(Pipe):
    """Keeps the ids of the requests that were written."""

    def __init__(self, clock: SimpleNamespace, count_min: int, count_max: int = 64, **options: Any) -> None:
        super().__init__(ClientLimits(inflight_count_min=count_min, inflight_count_max=count_max), **options)
        self.clock = clock
        self.ids: list[int] = []
        self.requests: list[Request] = []
        self._opened(Front())

    def _write(self, data: bytes) -> None:
        found = [json.loads(line) for line in data.splitlines()]
        self.ids += [each["id"] for each in found if "id" in each]

    def ask(self, count: int, timeout_s: float = 1000.0, method: str = "tools/list") -> None:
        """Send so many."""
        for _ in range(count):
            future = asyncio.get_running_loop().create_future()
            deadline_ns = self.clock.monotonic_ns() + int(timeout_s * 1e9)
            self.requests.append(Request(method, None, future, deadline_ns=deadline_ns, timeout_s=timeout_s))
            self.send(self.requests[-1])
        self._flush()

    def answer(self, after_ns: int, *, as_batch: bool = False) -> int:
        """Answer all that is in flight, in one read; how many those were."""
        self.clock.now_ns += after_ns
        ids, self.ids = self.ids, []
        answers = [json.dumps({"jsonrpc": "2.0", "id": id, "result": {}}) for id in ids]
        self.feed((f"[{','.join(answers)}]" if as_batch else "\n".join(answers)).encode() + b"\n")
        self._flush()
        return len(ids)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    found = SimpleNamespace(now_ns=MS_NS)
    found.monotonic_ns = lambda: found.now_ns
    monkeypatch.setattr("erlmcp.client.pipe.time", found)
    return found


@pytest.mark.parametrize("as_batch", [False, True])
async def test_it_grows_while_calls_stand_in_line_and_shrinks_when_an_answer_is_slow(
    clock: SimpleNamespace, as_batch: bool
) -> None:
    wire = Wire(clock, 4)
    wire.ask(400)
    assert [wire.answer(MS_NS, as_batch=as_batch) for _ in range(5)] == [4, 8, 16, 32, 64]
    assert [wire.answer(5 * MS_NS, as_batch=as_batch) for _ in range(3)] == [64, 48, 36]
    assert [wire.answer(MS_NS, as_batch=as_batch) for _ in range(3)] == [27, 28, 29]


async def test_calls_that_time_out_shrink_it(clock: SimpleNamespace) -> None:
    wire = Wire(clock, 4)
    wire.ask(100)
    assert [wire.answer(MS_NS) for _ in range(3)] == [4, 8, 16]
    assert wire.inflight_count == 32
    clock.now_ns += 2000 * 1000 * MS_NS
    wire._expire()
    with pytest.raises(CallTimeoutError):
        await wire.requests[-1].future
    wire.ids.clear()
    wire.ask(100)
    assert wire.answer(MS_NS) == 24


async def test_a_timed_call_that_is_given_up_makes_room_for_another_one_to_be_timed(clock: SimpleNamespace) -> None:
    wire = Wire(clock, 4)
    wire.ask(50)
    wire.cancel(wire.requests[0], "not wanted")
    wire._flush()
    assert wire.answer(MS_NS) == 5  # and what took its place
    assert wire.answer(MS_NS) == 8


@pytest.mark.parametrize(
    ("count_min", "flags", "found"), [(64, Flags(), 64), (1000, Flags(), 64), (4, Flags(pipelining=False), 1)]
)
async def test_it_is_fixed_where_the_bounds_leave_nothing_between_or_nothing_is_pipelined(
    clock: SimpleNamespace, count_min: int, flags: Flags, found: int
) -> None:
    wire = Wire(clock, count_min, flags=flags)
    wire.ask(300)
    assert [wire.answer(MS_NS), wire.answer(9 * MS_NS), wire.answer(MS_NS)] == [found] * 3


@pytest.mark.parametrize("method", ["ping", "server/discover"])
async def test_whether_the_server_lives_is_asked_past_the_limit(clock: SimpleNamespace, method: str) -> None:
    wire = Wire(clock, 4)
    wire.ask(10)
    wire.ask(1, method=method)
    assert len(wire.ids) == 5
    assert wire.requests[-1].id == wire.ids[-1]
    assert wire.answer(MS_NS) == 5
    wire._pause()
    wire.ids.clear()
    wire.ask(1, method=method)
    assert not wire.ids  # A server that does not read is asked nothing.
    wire._resume()
    wire._flush()
    assert wire.requests[-1].id in wire.ids
