"""Event loops that come and go: nothing keeps those that are closed."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

from erlmcp.aio import ThreadPool
from erlmcp.runtime import within


def test_a_loop_that_threads_spoke_to_is_not_kept_when_it_is_closed() -> None:
    seen: list[weakref.ref[asyncio.AbstractEventLoop]] = []
    pool, goes_on = ThreadPool(1), threading.Event()

    async def main() -> None:
        seen.append(weakref.ref(asyncio.get_running_loop()))
        assert await pool.run(int, "7") == 7

    async def leave() -> None:
        """Before the call has ended."""
        seen.append(weakref.ref(asyncio.get_running_loop()))
        call = asyncio.create_task(pool.run(goes_on.wait))
        await asyncio.sleep(0)
        assert not call.done()

    asyncio.run(main())
    asyncio.run(leave())
    goes_on.set()
    pool.core.shutdown()
    gc.collect()
    assert [each() for each in seen] == [None, None]


def test_timers_of_a_loop_are_found_while_other_threads_begin_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        """A loop of another thread, which begins a third one's timers just then."""

        def is_closed(self) -> bool:
            known[object()] = None
            return True

    known: dict[Any, Any] = {Other(): None}
    known[Other()] = None
    monkeypatch.setattr(within, "_TIMERS", known)

    async def main() -> None:
        assert within.timers_of(asyncio.get_running_loop()) is known[asyncio.get_running_loop()]

    asyncio.run(main())
    assert not any(isinstance(each, Other) for each in known)
