"""Work on which the flags of order show: who has its turn before whom, and what is refused, while there is much to do.

Bytes in to bytes out in one process, without a socket: what is measured is what the server decides, and not how two
programs share a processor.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from time import perf_counter, perf_counter_ns
from typing import Any

from erlmcp.bench import message
from erlmcp.bench.calling import new_loop
from erlmcp.bench.journey import lines
from erlmcp.bench.load import ID_SLOT
from erlmcp.bench.timing import Timed, closing

PAUSE_S = 0.0001  # of a function in a thread, which leaves the processor to others
BULK, THREADS = 1000, 2
CROWD, READ = 16, 256  # connections, and what each of them asks at once
PLACES, PLACE_S = 4, 0.004  # of the upstream, and how long a call has one of them
SPAN_S, PATIENCE_S = 0.25, 0.05  # of an overload, and of those who ask
MULTIPLE = 3
TURNS_MAX = 3
DELAY_MAX_S = 600.0  # that a call may wait for its turn: on a slow machine, too, all are answered


class Desk:
    """A connection that is read from the program: ``ask`` sends, ``answers`` counts, ``failed`` is how many of them
    were errors."""

    def __init__(self, server: Any) -> None:
        self.answers = self.failed = 0
        self.link = server.link(self._take)
        self.link.pace(self)
        self.ask = self.link.feed

    def pause(self) -> None:
        """What waits is bounded by what is asked."""

    resume = pause

    def _take(self, data: bytes) -> None:
        self.answers += data.count(b"\n")
        self.failed += data.count(b'"error":')

    async def wait(self, count: int) -> None:
        """Until so many answers came."""
        while self.answers < count:
            await asyncio.sleep(0)


class Hall:
    """A running server, its loop, and as many desks as are asked for."""

    def __init__(self, **limits: float) -> None:
        from erlmcp import Limits, Server

        self.loop = new_loop()
        limits = {"queue_delay_max_s": DELAY_MAX_S, **limits}
        self.server = Server("bench", limits=Limits(**limits))  # type: ignore[arg-type]
        self.loop.run_until_complete(self.server.start())

    def desks(self, count: int) -> list[Desk]:
        return [self.loop.run_until_complete(self._open()) for _ in range(count)]

    async def _open(self) -> Desk:
        return Desk(self.server)

    def timed(self, count: int, turn: Any, turns_max: int = TURNS_MAX) -> Timed:
        """``turn()`` gives the nanoseconds of ``count`` operations. What it prepares for them takes much longer than
        they do, so few turns are made, and their median stands for all."""

        async def some(repeats: int) -> int:
            taken = [await turn() for _ in range(min(repeats, turns_max))]
            return int(repeats * statistics.median(taken))

        def close() -> None:
            self.loop.run_until_complete(self.server.stop())
            self.loop.close()

        return closing(Timed(count, lambda repeats: self.loop.run_until_complete(some(repeats))), close)


def probe() -> Timed:
    """The answer to a ``server/discover`` of one connection, while 16 others have just asked for 256 things each."""
    hall = Hall()

    @hall.server.tool
    async def echo(text: str) -> str:
        return text

    crowd, (one,) = hall.desks(CROWD), hall.desks(1)
    many = b"".join(lines("echo", READ))
    asked = message.request("server/discover", {}) + b"\n"

    async def turn() -> int:
        for desk in (*crowd, one):
            desk.answers = desk.failed = 0
        for desk in crowd:
            desk.ask(many)
        began = perf_counter_ns()
        one.ask(asked)
        await one.wait(1)
        took = perf_counter_ns() - began
        for desk in crowd:
            await desk.wait(READ)
        _right(one, *crowd)
        return took

    return hall.timed(1, turn)


def burst(count: int) -> Timed:
    """So many calls at once of an ordinary function, which runs in threads."""
    hall = Hall()

    @hall.server.tool
    def echo(text: str) -> str:
        return text

    (desk,) = hall.desks(1)
    many = b"".join(lines("echo", count))

    async def turn() -> int:
        desk.answers = desk.failed = 0
        began = perf_counter_ns()
        desk.ask(many)
        await desk.wait(count)
        _right(desk)
        return perf_counter_ns() - began

    return hall.timed(count, turn)


def urgent() -> Timed:
    """A critical call of an ordinary function behind 1,000 bulk ones, which wait for 0.1 ms each, with two threads."""
    hall = Hall(thread_count_max=THREADS, thread_queue_max=4 * BULK)

    opened = threading.Event()
    began_by: set[int] = set()

    @hall.server.tool(priority="bulk")
    def echo(text: str) -> str:
        began_by.add(threading.get_ident())
        opened.wait()
        time.sleep(PAUSE_S)
        return text

    @hall.server.tool(priority="critical")
    def now(text: str) -> str:
        return text

    crowd, one = hall.desks(2)
    many = b"".join(lines("echo", BULK))
    asked = message.call("now", {"text": message.TEXT}) + b"\n"

    async def turn() -> int:
        for desk in (crowd, one):
            desk.answers = desk.failed = 0
        opened.clear()
        began_by.clear()
        crowd.ask(many)
        while len(began_by) < THREADS or len(hall.server.lanes) < BULK:
            _right(crowd)
            await asyncio.sleep(0)
        one.ask(asked)
        began = perf_counter_ns()
        opened.set()
        await one.wait(1)
        took = perf_counter_ns() - began
        await crowd.wait(BULK)
        _right(one, crowd)
        return took

    return hall.timed(1, turn)


def overloaded() -> Timed:
    """Calls that arrive at three times the rate that the tool's upstream can do, for 0.25 s: the time for each that was
    answered well within 50 ms. At most twice as many are let in as the upstream works on."""
    hall = Hall(total_inflight_count_min=2 * PLACES, total_inflight_count_max=2 * PLACES)
    places = asyncio.Semaphore(PLACES)
    due: dict[int, float] = {}
    good = [0]

    @hall.server.tool
    async def work(number: int) -> str:
        async with places:
            await asyncio.sleep(PLACE_S)
        if perf_counter() - due[number] <= PATIENCE_S:
            good[0] += 1
        return message.TEXT

    desks = hall.desks(CROWD)
    rate = MULTIPLE * PLACES / PLACE_S
    head, tail = message.call("work", {"number": 0}).split(b'"number":0')
    total = int(SPAN_S * rate)

    async def turn() -> float:
        for desk in desks:
            desk.answers = desk.failed = 0
        due.clear()
        good[0] = sent = 0
        began = perf_counter()
        while sent < total:
            now = perf_counter()
            while sent < total and began + sent / rate <= now:
                due[sent] = began + sent / rate
                body = head + b'"number":%d' % sent + tail
                desks[sent % CROWD].ask(body.replace(ID_SLOT, b"%d" % (int(ID_SLOT) + sent)) + b"\n")
                sent += 1
            await asyncio.sleep(0)
        took = perf_counter() - began
        for desk in desks:
            await desk.wait(total // CROWD)
        return took * 1e9 * total / max(1, good[0])

    return hall.timed(total, turn, turns_max=1)


def _right(*desks: Desk) -> None:
    if any(desk.failed for desk in desks):
        raise RuntimeError("a call was refused, or failed")
