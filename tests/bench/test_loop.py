"""The compiled loops do what they are timed for, and those for several threads lose nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from erlmcp._core.gate import InflightLimit
from erlmcp._core.pool import Pool
from erlmcp.bench import loop


def together(act: Callable[[], Any], count: int) -> list[Any]:
    """What each of so many threads got, that began at the same time."""
    got: list[Any] = []
    begin = threading.Barrier(count)

    def run() -> None:
        begin.wait(60)
        got.append(act())

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return got


@pytest.mark.parametrize("name", ["lanes_cycle", "deque_cycle", "deque_steal", "ring_local", "ring_spsc", "ring_mpmc"])
def test_every_item_that_goes_in_comes_out(name: str) -> None:
    assert getattr(loop, name)(100, 3) == 3 * sum(range(100))
    assert getattr(loop, name)(0, 3) == 0


def test_the_scan_of_an_envelope_counts_requests() -> None:
    assert loop.envelope_scan(b'{"jsonrpc":"2.0","id":1,"method":"ping"}', 5) == 5
    assert loop.envelope_scan(b'{"jsonrpc":"2.0","method":"ping"}', 5) == 0
    assert loop.envelope_scan(b'{"jsonrpc":"2.0","id":1,"method":', 5) == 0


@pytest.mark.parametrize(("threads", "members"), [(2, 1), (2, 2), (4, 3)])
def test_threads_without_the_gil_never_have_the_same_member(threads: int, members: int) -> None:
    pool, loans, count = Pool(members), bytearray(8 * members), 200_000
    for number in range(members):
        pool.add(number)
    together(lambda: loop.pool_share(pool, loans, count), threads)
    assert sum(memoryview(loans).cast("Q")) == threads * count
    assert (pool.idle_count, pool.lent_count, pool.stats()["lent_total"]) == (members, 0, threads * count)
    pool.check()
    with pytest.raises(ValueError, match="8 bytes for each member"):
        loop.pool_share(pool, bytearray(8 * members - 1), 1)


@pytest.mark.parametrize(("threads", "bound"), [(2, 1), (4, 3)])
def test_threads_without_the_gil_never_pass_an_inflight_limit(threads: int, bound: int) -> None:
    limit, count = InflightLimit(bound), 200_000
    got = together(lambda: loop.inflight_share(limit, count), threads)
    assert 1 <= max(most for _, most in got) <= bound
    assert sum(entered for entered, _ in got) + limit.refused_count == threads * count
    assert limit.count == 0
