"""What threads may do with the rooms of the ground: under the GIL each method is one step, so nothing is lost, given
twice or broken, even where keys and values run code of their own in the middle of a step.

The other rooms have such tests in their own files. The plain twins want a lock of the caller's, so they are not here.
"""

from __future__ import annotations

import importlib
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, ClassVar

import pytest

from erlmcp.errors import LimitError, StaleHandleError

BOUND_S = 60
THREADS = 4
STEPS = 2000


@pytest.fixture(autouse=True)
def _frequent_switches() -> Iterator[None]:
    """Threads take turns every 10 us, so that they meet in the middle of a step wherever that is possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def core() -> Callable[[str], ModuleType]:
    def load(room: str) -> ModuleType:
        return pytest.importorskip(f"erlmcp._core.{room}")

    importlib.import_module("erlmcp.core")
    return load


def in_threads(work: Callable[[int, random.Random], Any]) -> list[Any]:
    """What ``work(which, dice)`` gives in each of THREADS threads; the first error of any is raised."""
    results: list[Any] = [None] * THREADS
    errors: list[BaseException] = []
    start = threading.Barrier(THREADS)

    def run(which: int) -> None:
        try:
            start.wait(BOUND_S)
            results[which] = work(which, random.Random(which))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(which,), daemon=True) for which in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_S)
        assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]
    return results


def let_others_run() -> None:
    """Gives the GIL up once; whoever waits for it goes on here."""
    time.sleep(0)


class Slow:
    """A key that takes its time to be hashed and compared, so that another thread comes in between."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        let_others_run()
        return self.number % 64

    def __eq__(self, other: object) -> bool:
        let_others_run()
        return isinstance(other, Slow) and self.number == other.number


class Parting:
    """A value whose end takes its time."""

    ended: ClassVar[Counter[int]] = Counter()

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        let_others_run()
        self.ended[self.number] += 1


@pytest.mark.parametrize("kind", [int, Slow])
def test_a_wheel_that_threads_share_fires_or_cancels_each_key_once(core, kind):
    wheel = core("wheel").TimingWheel(1)

    def work(which: int, dice: random.Random) -> tuple[list[int], list[int], list[int]]:
        added, cancelled, fired = [], [], []
        for step in range(STEPS):
            number = step * THREADS + which
            wheel.add(kind(number), step + dice.randrange(50))
            added.append(number)
            chosen = dice.choice(added)
            if dice.random() < 0.3:
                if wheel.cancel(kind(chosen)):
                    cancelled.append(chosen)
            else:
                wheel.move(kind(chosen), step + dice.randrange(50))
            if dice.random() < 0.2:
                fired += wheel.advance(step)
        return added, cancelled, fired

    added, cancelled, fired = map(sum, zip(*in_threads(work), strict=True), ([], [], []))
    wheel.check()
    fired += wheel.advance(10 * STEPS)
    gone = Counter(cancelled) + Counter(key.number if kind is Slow else key for key in fired)
    assert len(wheel) == 0
    wheel.check()
    assert set(gone) == set(added)
    assert set(gone.values()) == {1}


def test_a_slab_that_threads_share_lends_each_slot_to_one(core):
    slab = core("slab").Slab(64)
    Parting.ended.clear()

    def work(which: int, dice: random.Random) -> int:
        mine: list[tuple[int, int]] = []
        put = 0
        for step in range(STEPS):
            number = step * THREADS + which
            try:
                mine.append((slab.put(Parting(number)), number))
                put += 1
            except LimitError:
                put += 1  # made, and ended at once
            while mine and dice.random() < 0.6:
                handle, number = mine.pop(dice.randrange(len(mine)))
                assert slab.get(handle).number == number
                assert slab.take(handle).number == number
                with pytest.raises(StaleHandleError):
                    slab.take(handle)
        return put

    assert sum(in_threads(work)) == THREADS * STEPS
    slab.check()
    slab.clear()
    assert len(slab) == 0
    assert set(Parting.ended.values()) == {1}
    assert len(Parting.ended) == THREADS * STEPS


def test_a_slab_may_be_cleared_while_others_use_it(core):
    slab = core("slab").Slab(1024)
    Parting.ended.clear()

    def work(which: int, dice: random.Random) -> int:
        for step in range(STEPS):
            handle = slab.put(Parting(step * THREADS + which))
            if dice.random() < 0.01:
                slab.clear()
            if dice.random() < 0.9:
                try:
                    assert slab.take(handle).number == step * THREADS + which
                except StaleHandleError:
                    pass  # another one cleared it
            elif len(slab) > 512:
                slab.clear()
        return STEPS

    in_threads(work)
    slab.check()
    slab.clear()
    assert set(Parting.ended.values()) == {1}
    assert len(Parting.ended) == THREADS * STEPS


def test_a_table_that_threads_share_keeps_what_each_put(core):
    table = core("table").Table()
    Parting.ended.clear()

    def work(which: int, dice: random.Random) -> dict[str, int]:
        mine: dict[str, int] = {}
        for step in range(STEPS):
            name, number = f"{which}/{dice.randrange(200)}", step * THREADS + which
            if dice.random() < 0.6:
                assert table.put(name, Parting(number)) == (name not in mine)
                mine[name] = number
            elif dice.random() < 0.5:
                assert table.remove(name) == (mine.pop(name, None) is not None)
            else:
                taken = table.pop(name, None)
                assert (taken.number if taken is not None else None) == mine.pop(name, None)
            found = table.get(name)
            assert (found.number if found is not None else None) == mine.get(name)
            if step % 100 == 0:
                try:
                    assert all(isinstance(value, Parting) for value in table.values())
                except RuntimeError:
                    pass  # a key was added meanwhile
        return mine

    kept = {name: number for mine in in_threads(work) for name, number in mine.items()}
    table.check()
    assert {name: value.number for name, value in table.items()} == kept
    table.clear()
    assert set(Parting.ended.values()) == {1}


@pytest.mark.parametrize("kind", [int, Slow])
def test_a_chain_that_threads_share_stays_whole(core, kind):
    chain = core("chain").Chain()

    def work(which: int, dice: random.Random) -> tuple[int, int]:
        added = gone = 0
        for _ in range(STEPS):
            key = kind(dice.randrange(40))
            what = dice.random()
            if what < 0.4:
                added += chain.add(key)
            elif what < 0.6:
                gone += chain.remove(key)
            elif what < 0.7:
                gone += chain.pop_oldest() is not None
            elif what < 0.8:
                try:
                    chain.move_to_end(key, dice.random() < 0.5)
                except KeyError:
                    pass
            else:
                try:
                    assert all(isinstance(each, kind) for each in chain)
                except RuntimeError:
                    pass  # it changed meanwhile
        return added, gone

    added, gone = map(sum, zip(*in_threads(work), strict=True))
    chain.check()
    if kind is int:  # those of Slow may be popped by one and removed by another in the middle of a comparison
        assert added - gone == len(chain) == len(list(chain))


def test_a_buffer_that_threads_share_gives_each_byte_once(core):
    buffer = core("buffer").Buffer()
    line = bytes(range(256)) * 4

    def work(which: int, dice: random.Random) -> bytes:
        if which % 2:
            taken: list[bytes] = []
            while len(taken) < STEPS:
                if piece := buffer.take(len(line)):
                    taken.append(piece)
                assert len(buffer.peek(10)) <= 10
            return b"".join(taken)
        for _ in range(STEPS):
            buffer.put(line if dice.random() < 0.5 else bytearray(line))
            if dice.random() < 0.1:
                buffer.compact()
        return b""

    results = in_threads(work)
    buffer.check()
    assert len(buffer) == 0
    assert b"".join(results) == line * (2 * STEPS), "whole pieces were put, and whole ones taken"
