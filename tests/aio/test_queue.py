"""``erlmcp.aio.Queue``: waiting on both ends, on asyncio's loop and on uvloop's."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
import threading
import weakref
from typing import Any

import pytest

from erlmcp.aio import queue as room
from erlmcp.aio.queue import Queue
from erlmcp.core import IMPLEMENTATION
from erlmcp.errors import QueueClosedError

MODES = ["local", "spsc", "mpmc"]


@pytest.fixture(params=["eventfd", "pipe"])
def wake_kind(request, monkeypatch):
    if request.param == "pipe":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("no eventfd here")


@pytest.fixture(autouse=True)
def _frequent_switches():
    """Threads take turns every 20 us, so that they meet in the queue, and a spinning one does not hold up the loop."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)
    yield
    sys.setswitchinterval(before)


def open_files():
    return len(os.listdir("/proc/self/fd"))


async def settled(*tasks):
    """Lets the loop run until nothing but the tasks' waiting is left to do."""
    for _ in range(5):
        await asyncio.sleep(0)
    return [task.done() for task in tasks]


@pytest.mark.parametrize("mode", MODES)
async def test_what_is_put_is_got_in_order(loop_kind, mode):
    queue: Queue[int] = Queue(4, mode)
    for number in range(3):
        await queue.put(number)
    assert (len(queue), queue.capacity, queue.is_full) == (3, 4, False)
    assert [await queue.get() for _ in range(3)] == [0, 1, 2]


async def test_full_and_empty_are_answers_where_nobody_waits():
    queue: Queue[Any] = Queue(2)
    assert queue.get_nowait() is None
    assert queue.get_nowait("nothing") == "nothing"
    assert [queue.put_nowait(number) for number in range(3)] == [True, True, False]
    assert queue.is_full
    assert not queue.push(3)
    assert [queue.get_nowait(), queue.pop(), queue.pop("nothing")] == [0, 1, "nothing"]
    await queue.put(None)
    assert queue.get_nowait("nothing") is None


async def test_a_getter_waits_for_an_item(loop_kind, wake_kind):
    queue: Queue[str] = Queue(2)
    task = asyncio.create_task(queue.get())
    assert await settled(task) == [False]
    await queue.put("item")
    assert await asyncio.wait_for(task, 10) == "item"
    queue.close()


async def test_a_putter_waits_for_a_place(loop_kind, wake_kind):
    queue: Queue[int] = Queue(2)
    await queue.put_many([1, 2])
    task = asyncio.create_task(queue.put(3))
    assert await settled(task) == [False]
    assert await queue.get() == 1
    await asyncio.wait_for(task, 10)
    assert [await queue.get(), await queue.get()] == [2, 3]
    queue.close()


async def test_getters_are_served_in_the_order_in_which_they_came(loop_kind):
    queue: Queue[int] = Queue(16)
    got: list[tuple[int, int]] = []

    async def get(name):
        got.append((name, await queue.get()))

    tasks = [asyncio.create_task(get(name)) for name in range(8)]
    await settled()
    queue.put_nowait(0)
    await queue.put_many(list(range(1, 5)))
    late = asyncio.create_task(get(8))
    await settled()
    await queue.put_many((5, 6, 7, 8))
    await asyncio.gather(*tasks, late)
    assert got == [(number, number) for number in range(9)]


async def test_putters_are_served_in_the_order_in_which_they_came(loop_kind):
    queue: Queue[int] = Queue(2)
    await queue.put_many([0, 1])
    tasks = [asyncio.create_task(queue.put(number)) for number in range(2, 8)]
    await settled()
    tasks.append(asyncio.create_task(queue.put_many([8, 9, 10, 11])))
    tasks.append(asyncio.create_task(queue.put(12)))
    assert [await queue.get() for _ in range(13)] == list(range(13))
    await asyncio.gather(*tasks)


async def test_nobody_overtakes_those_who_wait():
    queue: Queue[int] = Queue(2)
    getter = asyncio.create_task(queue.get())
    await settled()
    assert queue.put_nowait(1)
    assert queue.get_nowait("others wait") == "others wait"
    second = asyncio.create_task(queue.get())
    await settled()
    assert getter.result() == 1
    await queue.put_many([2, 3])
    assert await second == 2
    assert queue.put_nowait(4)
    putter = asyncio.create_task(queue.put(5))
    await settled()
    assert queue.get_nowait() == 3
    assert not queue.put_nowait(6), "the waiting putter has the place"
    await putter
    assert [queue.get_nowait(), queue.get_nowait(), queue.get_nowait()] == [4, 5, None]


async def test_get_many_gives_one_at_least_and_no_more_than_asked(loop_kind):
    queue: Queue[int] = Queue(8)
    task = asyncio.create_task(queue.get_many(3))
    await settled()
    await queue.put_many([1, 2, 3, 4, 5])
    assert await task == [1, 2, 3]
    assert await queue.get_many(10) == [4, 5]
    with pytest.raises(ValueError, match="at least 1"):
        await queue.get_many(0)


async def test_put_many_waits_for_places_and_keeps_its_items_together(loop_kind):
    queue: Queue[int] = Queue(4)
    first = asyncio.create_task(queue.put_many(list(range(50))))
    second = asyncio.create_task(queue.put_many(tuple(range(50, 100))))
    got: list[int] = []
    while len(got) < 100:
        got += await queue.get_many(3)
    assert got == list(range(100))
    await asyncio.gather(first, second)
    with pytest.raises(TypeError, match="a list or a tuple"):
        await queue.put_many({1, 2})  # type: ignore[arg-type]


@pytest.mark.parametrize("moment", ["before the item", "after the item"])
async def test_a_cancelled_getter_loses_no_item(loop_kind, moment):
    queue: Queue[int] = Queue(4)
    tasks = [asyncio.create_task(queue.get()) for _ in range(3)]
    await settled()
    if moment == "before the item":
        tasks[0].cancel()
        await queue.put_many([1, 2])
    else:
        await queue.put_many([1, 2])
        tasks[0].cancel()
    assert await asyncio.gather(*tasks[1:]) == [1, 2]
    assert tasks[0].cancelled()
    assert len(queue) == 0


@pytest.mark.parametrize("moment", ["before the place", "after the place"])
async def test_a_cancelled_putter_has_put_nothing_and_holds_nobody_up(loop_kind, moment):
    queue: Queue[int] = Queue(2)
    await queue.put_many([1, 2])
    tasks = [asyncio.create_task(queue.put(number)) for number in (3, 4)]
    await settled()
    if moment == "before the place":
        tasks[0].cancel()
        assert queue.get_nowait() == 1
    else:
        assert queue.get_nowait() == 1
        tasks[0].cancel()
    await tasks[1]
    assert await queue.get_many(4) == [2, 4]
    assert tasks[0].cancelled()


async def test_a_cancelled_put_many_leaves_what_went_in_from_the_front(loop_kind):
    queue: Queue[int] = Queue(2)
    task = asyncio.create_task(queue.put_many([1, 2, 3, 4, 5]))
    await settled()
    assert await queue.get() == 1
    await settled()
    task.cancel()
    await asyncio.wait([task])
    assert await queue.get_many(9) == [2, 3]


async def test_timeouts_at_random_lose_and_double_nothing(loop_kind):
    draw = random.Random(5)
    queue: Queue[int] = Queue(4)
    put: list[int] = []
    got: list[int] = []

    async def putter(numbers):
        for number in numbers:
            task = asyncio.create_task(queue.put(number))
            for _ in range(draw.randrange(4)):
                await asyncio.sleep(0)
            if draw.random() < 0.3:
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                put.append(number)

    async def getter():
        while True:
            task = asyncio.create_task(queue.get())
            for _ in range(draw.randrange(4)):
                await asyncio.sleep(0)
            if draw.random() < 0.3:
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                try:
                    got.append(task.result())
                except QueueClosedError:
                    return

    getters = [asyncio.create_task(getter()) for _ in range(3)]
    await asyncio.gather(*(putter(range(first, first + 200)) for first in (0, 1000, 2000)))
    queue.close()
    await asyncio.gather(*getters)
    assert sorted(got) == sorted(put)
    assert len(got) > 100


async def test_closing_lets_getters_drain_and_then_tells_them(loop_kind):
    queue: Queue[int] = Queue(4)
    await queue.put_many([1, 2])
    queue.close()
    queue.close()
    assert queue.is_closed
    assert [await queue.get(), await queue.get_many(5)] == [1, [2]]
    for attempt in (queue.get(), queue.get_many(2), queue.put(3), queue.put_many([3])):
        with pytest.raises(QueueClosedError):
            await attempt
    for refused in (queue.put_nowait, queue.push):
        with pytest.raises(QueueClosedError):
            refused(3)
    assert queue.get_nowait("nothing") == "nothing"


async def test_closing_wakes_all_who_wait(loop_kind):
    queue: Queue[int] = Queue(2)
    getters = [asyncio.create_task(queue.get()) for _ in range(3)]
    await settled()
    queue.put_nowait(7)
    queue.close()
    done = await asyncio.gather(*getters, return_exceptions=True)
    assert done[0] == 7
    assert [type(each) for each in done[1:]] == [QueueClosedError] * 2
    queue = Queue(2)
    putters = [asyncio.create_task(queue.put_many([1, 2, 3])), asyncio.create_task(queue.put(4))]
    await settled()
    queue.close()
    done = await asyncio.gather(*putters, return_exceptions=True)
    assert str(done[0]) == "the queue is closed: 2 of 3 items went in"
    assert isinstance(done[1], QueueClosedError)
    assert await queue.get_many(4) == [1, 2]


async def test_iterating_ends_where_the_queue_is_closed_and_drained(loop_kind):
    queue: Queue[int] = Queue(4)

    async def put():
        for number in range(20):
            await queue.put(number)
        queue.close()

    task = asyncio.create_task(put())
    assert [number async for number in queue] == list(range(20))
    await task


@pytest.mark.parametrize("mode", MODES)
async def test_a_thread_hands_items_to_the_loop(loop_kind, wake_kind, mode):
    queue: Queue[int] = Queue(8, mode)

    def produce():
        for number in range(3000):
            while not queue.push(number):
                pass

    thread = threading.Thread(target=produce)
    thread.start()
    got = [await queue.get() for _ in range(1000)]
    while len(got) < 3000:
        got += await queue.get_many(64)
    thread.join(60)
    assert got == list(range(3000))
    queue.close()


async def test_the_loop_hands_items_to_threads(loop_kind, wake_kind):
    queue: Queue[int] = Queue(8)
    got: list[int] = []

    def consume():
        while (number := queue.pop()) != -1:
            if number is not None:
                got.append(number)

    threads = [threading.Thread(target=consume) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(1000):
        await queue.put(number)
    await queue.put_many(list(range(1000, 2000)))
    await queue.put_many([-1, -1])
    for thread in threads:
        await asyncio.to_thread(thread.join, 60)
    assert sorted(got) == list(range(2000))
    queue.close()


async def test_threads_and_tasks_together_lose_and_double_nothing(loop_kind):
    queue: Queue[int] = Queue(16)
    got: list[int] = []

    def produce(first):
        for number in range(first, first + 1000):
            while not queue.push(number):
                pass

    async def put(first):
        for number in range(first, first + 1000):
            await queue.put(number)

    async def get():
        async for number in queue:
            got.append(number)

    threads = [threading.Thread(target=produce, args=(first,)) for first in (0, 1000)]
    for thread in threads:
        thread.start()
    getters = [asyncio.create_task(get()) for _ in range(3)]
    await asyncio.gather(put(2000), put(3000))
    for thread in threads:
        await asyncio.to_thread(thread.join, 60)
    queue.close()
    await asyncio.gather(*getters)
    assert sorted(got) == list(range(4000))


@pytest.mark.skipif(IMPLEMENTATION != "core", reason="the twin has no threads without the GIL")
@pytest.mark.parametrize("mode", ["spsc", "mpmc"])
async def test_a_thread_without_the_gil_hands_items_to_the_loop(loop_kind, wake_kind, mode):
    from erlmcp._core.ring import feed

    queue: Queue[object] = Queue(8, mode)
    things = [object() for _ in range(3000)]
    thread = threading.Thread(target=feed, args=(queue.ring, things))
    thread.start()
    got = [await queue.get() for _ in range(1000)]
    while len(got) < len(things):
        got += await queue.get_many(5)
    thread.join(60)
    assert got == things
    queue.close()


async def test_a_queue_belongs_to_one_loop():
    queue: Queue[int] = Queue(2)
    task = asyncio.create_task(queue.get())
    await settled()

    def elsewhere():
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(queue.get())

    await asyncio.to_thread(elsewhere)
    queue.push(1)
    assert await task == 1
    queue.close()


@pytest.mark.parametrize("end", ["closed", "forgotten", "forgotten in a thread"])
async def test_no_descriptor_stays_open(loop_kind, wake_kind, end):
    await settled()
    before = open_files()
    queue: Queue[int] = Queue(2)
    task = asyncio.create_task(queue.get())
    await settled()
    assert open_files() > before
    queue.push(1)
    await task
    ring = queue.ring
    gone = weakref.ref(queue)
    if end == "closed":
        queue.close()
    elif end == "forgotten":
        del queue
        assert gone() is None
    else:
        held = [queue]
        del queue
        await asyncio.to_thread(held.clear)
        gc.collect()
        assert gone() is None
    await settled()
    assert open_files() == before
    assert (ring.wake_fd, ring.space_fd) == (-1, -1)


def test_no_descriptor_stays_open_after_its_loop(wake_kind):
    before = open_files()
    queue: Queue[int] = Queue(2)

    async def use(queue):
        task = asyncio.create_task(queue.get())
        await settled()
        queue.push(1)
        assert await task == 1

    asyncio.run(use(queue))
    del queue
    gc.collect()
    assert open_files() == before


async def test_a_wake_that_was_read_already_does_no_harm():
    queue: Queue[int] = Queue(2)
    reading, writing = room.open_wake()
    room.on_wake(weakref.ref(queue), reading)
    for fd in {reading, writing}:
        os.close(fd)
    assert len(queue) == 0
